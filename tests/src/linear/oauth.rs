//! Grants, codes and tokens. Who asks, and in which form, is in `authorize` and `token_endpoint`.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::world::{Id, new_id};

/// A code must be exchanged within this time.
pub const CODE_LIFETIME_MS: u64 = 10 * 60 * 1000;
/// A refresh token that was used may be used again within this time, with the same result.
pub const REFRESH_GRACE_MS: u64 = 30 * 60 * 1000;
/// Client-credentials tokens live this long, in seconds.
pub(super) const CLIENT_CREDENTIALS_TOKEN_S: u64 = 2_591_999;

/// An access token and what renews it. Its `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenPair {
    /// For `Authorization: Bearer`.
    pub access_token: String,
    /// For the next pair; none with client credentials.
    pub refresh_token: Option<String>,
    /// The access token's life, in seconds.
    pub expires_in_s: u64,
    /// What it allows.
    pub scope: Vec<String>,
}

impl fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPair").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// What a person has allowed the app.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) id: Id,
    pub(super) organization: Id,
    /// As whom the app acts: the person, or the app's own user.
    pub(super) user: Id,
    /// The person who consented.
    pub(super) granted_by: Id,
    pub(super) scope: Vec<String>,
    /// Made with a PKCE verifier instead of the client's secret: refreshed likewise.
    pub(super) is_public: bool,
    pub(super) revoked: bool,
}

pub(super) struct Code {
    pub(super) text: String,
    pub(super) grant: Id,
    pub(super) redirect_uri: String,
    pub(super) challenge: Option<String>,
    pub(super) created_ms: u64,
    pub(super) used: bool,
}

pub(super) struct AccessToken {
    text: String,
    pub(super) grant: Id,
    pub(super) expires_ms: u64,
    revoked: bool,
}

struct RefreshToken {
    text: String,
    grant: Id,
    /// When it was used, and what it gave.
    used: Option<(u64, TokenPair)>,
    revoked: bool,
}

#[derive(Default)]
pub(super) struct Authority {
    pub(super) grants: Vec<Grant>,
    pub(super) codes: Vec<Code>,
    access: Vec<AccessToken>,
    refresh: Vec<RefreshToken>,
}

/// What `/oauth/revoke` has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Revoked {
    Now,
    Before,
    Unknown,
}

impl Authority {
    pub(super) fn grant(&self, id: &str) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.id == id)
    }

    /// Whom an access token stands for, if it is good.
    pub(super) fn check(&self, token: &str, now_ms: u64) -> Option<&Grant> {
        let token = self.access.iter().find(|row| row.text == token)?;
        let good = !token.revoked && now_ms < token.expires_ms;
        self.grant(&token.grant).filter(|grant| good && !grant.revoked)
    }

    /// How many access tokens stand for somebody.
    pub(super) fn good_tokens(&self, now_ms: u64) -> usize {
        self.access.iter().filter(|row| self.check(&row.text, now_ms).is_some()).count()
    }

    /// A pair for a grant; only an access token, if it isn't to be renewed.
    pub(super) fn issue(
        &mut self,
        grant: &Grant,
        renewable: bool,
        life_s: u64,
        now_ms: u64,
    ) -> TokenPair {
        let pair = TokenPair {
            access_token: secret("lin_oauth_"),
            refresh_token: renewable.then(|| secret("lin_refresh_")),
            expires_in_s: life_s,
            scope: grant.scope.clone(),
        };
        self.access.push(AccessToken {
            text: pair.access_token.clone(),
            grant: grant.id.clone(),
            expires_ms: now_ms + life_s * 1000,
            revoked: false,
        });
        self.refresh.extend(pair.refresh_token.clone().map(|text| RefreshToken {
            text,
            grant: grant.id.clone(),
            used: None,
            revoked: false,
        }));
        pair
    }

    /// The grant that a refresh token belongs to, if that still stands.
    pub(super) fn refreshable(&self, token: &str) -> Option<&Grant> {
        let token = self.refresh.iter().find(|row| row.text == token && !row.revoked)?;
        self.grant(&token.grant).filter(|grant| !grant.revoked)
    }

    /// Uses a refresh token: a new pair, or the same one again within the time of grace.
    pub(super) fn renew(&mut self, token: &str, life_s: u64, now_ms: u64) -> Option<TokenPair> {
        let grant = self.refreshable(token)?.clone();
        let used = self.refresh.iter().find(|row| row.text == token)?.used.clone();
        if let Some((used_ms, pair)) = used {
            return (now_ms <= used_ms + REFRESH_GRACE_MS).then_some(pair);
        }
        let pair = self.issue(&grant, true, life_s, now_ms);
        let row = self.refresh.iter_mut().find(|row| row.text == token)?;
        row.used = Some((now_ms, pair.clone()));
        Some(pair)
    }

    /// Revokes a token; a refresh token takes all of its grant with it.
    pub(super) fn revoke(&mut self, token: &str) -> Revoked {
        if let Some(row) = self.access.iter_mut().find(|row| row.text == token) {
            let dead = self.grants.iter().any(|grant| grant.id == row.grant && grant.revoked);
            let before = std::mem::replace(&mut row.revoked, true) || dead;
            return if before { Revoked::Before } else { Revoked::Now };
        }
        let Some(row) = self.refresh.iter_mut().find(|row| row.text == token) else {
            return Revoked::Unknown;
        };
        let (before, grant) = (std::mem::replace(&mut row.revoked, true), row.grant.clone());
        let dead = self.grant(&grant).is_none_or(|grant| grant.revoked);
        self.revoke_grant(&grant);
        if before || dead { Revoked::Before } else { Revoked::Now }
    }

    pub(super) fn revoke_grant(&mut self, grant: &str) {
        self.revoke_where(|row| row.id == grant);
    }

    /// Ends everything of an organization, as when the app is removed from it.
    pub(super) fn revoke_organization(&mut self, organization: &str) {
        self.revoke_where(|row| row.organization == organization);
    }

    /// Ends what acts as a user.
    pub(super) fn revoke_user(&mut self, user: &str) {
        self.revoke_where(|row| row.user == user);
    }

    /// Ends the client-credentials tokens of an organization whose scope is another.
    pub(super) fn revoke_other_scopes(&mut self, organization: &str, scope: &[String]) {
        self.revoke_where(|row| {
            row.organization == organization && row.granted_by.is_empty() && row.scope != scope
        });
    }

    fn revoke_where(&mut self, ends: impl Fn(&Grant) -> bool) {
        for grant in self.grants.iter_mut().filter(|grant| ends(grant)) {
            grant.revoked = true;
        }
    }
}

/// The S256 challenge of a PKCE verifier.
pub fn pkce_challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// A new secret text.
pub(super) fn secret(prefix: &str) -> String {
    format!("{prefix}{}{}", new_id(), new_id()).replace('-', "")
}

/// A scope parameter: names between commas or spaces. `read` is always part of it.
pub(super) fn parse_scope(text: &str) -> Vec<String> {
    let names = text.split([',', ' ', '+']).filter(|name| !name.is_empty()).map(str::to_owned);
    let mut scope: Vec<String> = std::iter::once("read".to_owned()).chain(names).collect();
    scope.sort();
    scope.dedup();
    scope
}
