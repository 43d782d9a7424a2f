//! What the relay, a browser and Linear say to each other while a person signs in.

use std::fmt;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use subtle::ConstantTimeEq;

use crate::{
    device::UserCode,
    form::write_form,
    identifier::{OrganizationId, UserId},
    signature::Sha256Digest,
};

/// What an app is installed with.
const INSTALL_SCOPE: &str = "read,write,app:assignable,app:mentionable";

/// What names a person.
const PERSON_SCOPE: &str = "read";

/// Whose token it is, and in which workspace.
pub const VIEWER_QUERY: &str =
    "query Viewer{viewer{id name email active app admin organization{id name urlKey}}}";

/// 32 random bytes as text.
pub fn secret_text(bytes: [u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A text's digest as a `Content-Security-Policy` names it.
pub fn content_digest(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256Digest::of(&[text.as_bytes()]).as_bytes()))
}

/// The digest of a secret of 256 random bits, which is all that is stored of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretDigest(Sha256Digest);

impl SecretDigest {
    /// The digest of a secret.
    pub fn of(secret: &str) -> Self {
        Self(Sha256Digest::of(&[secret.as_bytes()]))
    }

    /// Whether it is the digest of this secret; in time that does not depend on where a
    /// difference lies.
    pub fn is_of(&self, secret: &str) -> bool {
        self.0.as_bytes().ct_eq(Self::of(secret).0.as_bytes()).into()
    }
}

impl fmt::Display for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for SecretDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digest = Sha256Digest::parse_hex(&text);
        digest.map(Self).ok_or_else(|| serde::de::Error::custom("not a digest"))
    }
}

/// Words that stand in one text, or in a list: Linear writes the scope of a token either way.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Words {
    /// Between blanks or commas.
    Text(String),
    /// Each by itself.
    List(Vec<String>),
}

impl Default for Words {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl From<Words> for Vec<String> {
    fn from(words: Words) -> Self {
        match words {
            Words::List(list) => list,
            Words::Text(text) => {
                let words = text.split([' ', ',']).filter(|word| !word.is_empty());
                words.map(str::to_owned).collect()
            }
        }
    }
}

/// Where a person goes after the sign-in: one of these, and never an address from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "page", rename_all = "snake_case")]
pub enum ReturnTo {
    /// The page that approves a machine.
    Device {
        /// The code that the machine shows, when the person came with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_code: Option<UserCode>,
    },
    /// The page of the person's own machines.
    Machines,
}

impl ReturnTo {
    /// Reads the parameters of `/oauth/sign-in`. A code that can't be one is left out, and asked
    /// for by the page.
    pub fn parse(page: Option<&str>, user_code: Option<&str>) -> Option<Self> {
        match page {
            None | Some("device") => {
                let user_code = user_code.and_then(|code| code.parse().ok());
                Some(Self::Device { user_code })
            }
            Some("machines") => Some(Self::Machines),
            Some(_) => None,
        }
    }

    /// The page's path and query.
    pub fn path(&self) -> String {
        match self {
            Self::Device { user_code: Some(code) } => format!("/device?user_code={code}"),
            Self::Device { user_code: None } => "/device".into(),
            Self::Machines => "/device/machines".into(),
        }
    }
}

/// What somebody is sent to Linear for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", rename_all = "snake_case")]
pub enum SignInPurpose {
    /// To install the app in a workspace.
    Install,
    /// To say who they are.
    Person {
        /// Where they go then.
        return_to: ReturnTo,
    },
}

/// What stands in the address at Linear that a browser is sent to.
#[derive(Clone, Debug)]
pub struct AuthorizeRequest<'a> {
    /// `LINEAR_URL`.
    pub linear_url: &'a str,
    /// The app.
    pub client_id: &'a str,
    /// Where Linear sends the browser back to.
    pub redirect_uri: &'a str,
    /// Known to this browser and the relay only.
    pub state: &'a str,
    /// Of which Linear learns the digest now, and the rest from the relay.
    pub verifier: &'a str,
    /// What for.
    pub purpose: &'a SignInPurpose,
}

impl AuthorizeRequest<'_> {
    /// The address.
    pub fn url(&self) -> String {
        let challenge =
            URL_SAFE_NO_PAD.encode(Sha256Digest::of(&[self.verifier.as_bytes()]).as_bytes());
        let (scope, actor) = match self.purpose {
            SignInPurpose::Install => (INSTALL_SCOPE, "app"),
            SignInPurpose::Person { .. } => (PERSON_SCOPE, "user"),
        };
        let query = write_form(&[
            ("client_id", self.client_id),
            ("redirect_uri", self.redirect_uri),
            ("response_type", "code"),
            ("scope", scope),
            ("state", self.state),
            ("prompt", "consent"),
            ("actor", actor),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        format!("{}/oauth/authorize?{query}", self.linear_url)
    }
}

/// Linear's answer to a code. Not printable: it holds secrets.
#[derive(Deserialize)]
pub struct LinearTokens {
    /// What requests carry.
    pub access_token: String,
    /// What gets the next one.
    #[serde(default)]
    pub refresh_token: Option<String>,
    /// How long the first is valid, in seconds; a day, as Linear's are, if it isn't said.
    #[serde(default = "token_life_s")]
    pub expires_in: u64,
    /// What it allows.
    #[serde(default)]
    pub scope: Words,
}

fn token_life_s() -> u64 {
    86_399
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Viewer {
    /// The person's id, or that of the app's own user.
    pub id: UserId,
    /// Their name.
    pub name: String,
    /// Whether they are still a member.
    pub active: bool,
    /// Whether it is an app's user.
    #[serde(default)]
    pub app: bool,
    /// Whether they administer the workspace.
    #[serde(default)]
    pub admin: bool,
    /// Their workspace.
    pub organization: ViewerOrganization,
}

/// A workspace as Linear names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ViewerOrganization {
    /// Its id.
    pub id: OrganizationId,
    /// Its name.
    pub name: String,
    /// Its part of Linear's addresses.
    #[serde(rename = "urlKey")]
    pub url_key: String,
}

impl Viewer {
    /// Reads Linear's answer to [`VIEWER_QUERY`]. Errors come with status 200, too.
    pub fn read(answer: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            data: Option<Data>,
            #[serde(default)]
            errors: Vec<serde::de::IgnoredAny>,
        }
        #[derive(Deserialize)]
        struct Data {
            viewer: Viewer,
        }
        let answer: Answer = serde_json::from_str(answer).ok()?;
        answer.data.filter(|_| answer.errors.is_empty()).map(|data| data.viewer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::read_form;

    #[test]
    fn a_browser_is_sent_to_linear_with_all_that_it_takes() {
        let check = |purpose: SignInPurpose, scope: &str, actor: &str| {
            let request = AuthorizeRequest {
                linear_url: "https://linear.app",
                client_id: "client",
                redirect_uri: "https://relay.example/oauth/callback",
                state: "s",
                // RFC 7636, appendix B.
                verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
                purpose: &purpose,
            };
            let url = request.url();
            let query = url.strip_prefix("https://linear.app/oauth/authorize?").unwrap();
            let expected = [
                ("client_id", "client"),
                ("redirect_uri", "https://relay.example/oauth/callback"),
                ("response_type", "code"),
                ("scope", scope),
                ("state", "s"),
                ("prompt", "consent"),
                ("actor", actor),
                ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
                ("code_challenge_method", "S256"),
            ];
            let expected: Vec<(String, String)> =
                expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            assert_eq!(read_form(query), expected);
        };
        check(SignInPurpose::Install, "read,write,app:assignable,app:mentionable", "app");
        check(SignInPurpose::Person { return_to: ReturnTo::Machines }, "read", "user");
    }

    #[test]
    fn a_person_returns_to_one_of_our_pages() {
        let check = |page: Option<&str>, code: Option<&str>, path: Option<&str>| {
            let found = ReturnTo::parse(page, code).map(|page| page.path());
            assert_eq!(found.as_deref(), path, "{page:?} {code:?}");
        };
        check(None, None, Some("/device"));
        check(Some("device"), Some("bcdf-ghjk"), Some("/device?user_code=BCDF-GHJK"));
        check(Some("device"), Some("https://evil.example"), Some("/device"));
        check(Some("machines"), None, Some("/device/machines"));
        for page in ["", "//evil.example", "https://evil.example", "/device", "Device"] {
            check(Some(page), None, None);
        }
    }

    #[test]
    fn scopes_come_as_text_or_as_a_list() {
        let check = |json: &str| {
            let tokens: LinearTokens =
                serde_json::from_str(&format!(r#"{{"access_token":"a","scope":{json}}}"#)).unwrap();
            assert_eq!(Vec::from(tokens.scope), ["read", "write"], "{json}");
        };
        check(r#""read write""#);
        check(r#""read,write""#);
        check(r#"["read","write"]"#);
    }

    #[test]
    fn a_viewer_is_read_only_from_an_answer_without_errors() {
        let viewer = r#"{"viewer":{"id":"u","name":"Ada","email":"a@b","active":true,"app":false,
            "admin":true,"organization":{"id":"o","name":"Acme","urlKey":"acme"}}}"#;
        let read = Viewer::read(&format!(r#"{{"data":{viewer}}}"#)).unwrap();
        assert_eq!((read.id.as_str(), read.organization.url_key.as_str()), ("u", "acme"));
        for refused in [
            format!(r#"{{"data":{viewer},"errors":[{{"message":"no"}}]}}"#),
            r#"{"data":null,"errors":[{}]}"#.to_owned(),
            "{}".to_owned(),
            "<html>".to_owned(),
        ] {
            assert_eq!(Viewer::read(&refused), None, "{refused}");
        }
    }

    #[test]
    fn a_digest_is_of_one_secret() {
        let digest = SecretDigest::of("secret");
        assert!(digest.is_of("secret"));
        assert!(!digest.is_of("secreT") && !digest.is_of(""));
        let stored = serde_json::to_string(&digest).unwrap();
        assert!(!stored.contains("secret"));
        assert_eq!(serde_json::from_str::<SecretDigest>(&stored).unwrap(), digest);
    }
}
