//! Linear as far as the relay depends on it.

use std::collections::{BTreeMap, BTreeSet};

use relay_durable::{Effect, RefreshForm};
use relay_schemas::{UnixMillis, linear_api::LinearAnswer};
use serde_json::{Value, json};

const REPLAY_MS: u64 = 30 * 60_000;

/// What Linear has, and what it would refuse.
#[derive(Default)]
pub(crate) struct Linear {
    /// Access tokens that are good, and until when.
    access: BTreeMap<String, UnixMillis>,
    /// The one refresh token that is good.
    refresh: Option<String>,
    /// Refresh tokens that were used: when, and what they gave.
    replays: BTreeMap<String, (UnixMillis, (String, String))>,
    /// What was created or changed, in order: id, lane, text.
    pub(crate) made: Vec<(String, String, String)>,
    /// Sessions that are gone.
    pub(crate) gone: BTreeSet<String>,
    /// Texts that it doesn't take.
    pub(crate) unwanted: BTreeSet<String>,
    /// A second creation with the same id is an error.
    pub(crate) refuses_repeated: bool,
    /// Requests with several mutations are refused as a whole.
    pub(crate) refuses_batches: bool,
    /// Calls by id, however they ended.
    pub(crate) tries: BTreeMap<String, u32>,
    /// Pairs that were made by refreshing.
    pub(crate) refreshes: u32,
    /// Ids that were refused for good, and what they said.
    pub(crate) refused: BTreeMap<String, String>,
    count: u32,
}

fn input_error(path: Option<&str>, message: &str) -> Value {
    let path = path.map_or(Value::Null, |name| json!([name]));
    json!({
        "message": message, "path": path,
        "extensions": {"type": "invalid input", "code": "INPUT_ERROR", "statusCode": 400,
            "userError": true, "userPresentableMessage": message},
    })
}

impl Linear {
    fn pair(&mut self, now: UnixMillis) -> (String, String) {
        self.count += 1;
        let pair = (format!("lin_access_{}", self.count), format!("lin_refresh_{}", self.count));
        self.access.insert(pair.0.clone(), now + 86_399_000);
        self.refresh = Some(pair.1.clone());
        pair
    }

    /// The app is installed; earlier tokens stay what they are.
    pub(crate) fn install(&mut self, now: UnixMillis) -> (String, String) {
        self.pair(now)
    }

    /// Every access token is refused from now on.
    pub(crate) fn expire_access(&mut self) {
        self.access.clear();
    }

    /// Every refresh token is dead.
    pub(crate) fn revoke_refresh(&mut self) {
        self.refresh = None;
        self.replays.clear();
    }

    /// What the created things say, in order.
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.made.iter().map(|(_, _, text)| text.as_str()).collect()
    }

    pub(crate) fn ask(&mut self, effect: &Effect, now: UnixMillis) -> LinearAnswer {
        match effect {
            Effect::Call { token, body, .. } => self.call(token.reveal(), body, now),
            Effect::Refresh { form, .. } => self.token(form, now),
        }
    }

    fn token(&mut self, form: &RefreshForm, now: UnixMillis) -> LinearAnswer {
        let RefreshForm::RefreshToken(token) = form else {
            let access = self.pair(now).0;
            let body = json!({"access_token": access, "expires_in": 2_591_999, "scope": "read"});
            return LinearAnswer::new(200, body.to_string());
        };
        let token = token.reveal().to_owned();
        let pair = match self.replays.get(&token) {
            Some((at, pair)) if now.since_ms(*at) < REPLAY_MS => pair.clone(),
            _ if self.refresh.as_ref() == Some(&token) => {
                self.refreshes += 1;
                let pair = self.pair(now);
                self.replays.insert(token, (now, pair.clone()));
                pair
            }
            _ => return LinearAnswer::new(400, r#"{"error":"invalid_grant"}"#),
        };
        let body = json!({
            "access_token": pair.0, "refresh_token": pair.1, "token_type": "Bearer",
            "expires_in": 86_399, "scope": "read write",
        });
        LinearAnswer::new(200, body.to_string())
    }

    fn call(&mut self, token: &str, body: &str, now: UnixMillis) -> LinearAnswer {
        if self.access.get(token).is_none_or(|until| *until <= now) {
            return LinearAnswer::new(401, "{}");
        }
        let body: Value = serde_json::from_str(body).unwrap();
        let (query, variables) = (body["query"].as_str().unwrap(), &body["variables"]);
        if query.starts_with("mutation AgentActivities(") {
            return self.batch(variables.as_object().unwrap());
        }
        let name = query.split('{').nth(1).unwrap().trim().split('(').next().unwrap();
        match self.mutate(variables) {
            Ok(()) => {
                LinearAnswer::new(200, json!({"data": {name: {"success": true}}}).to_string())
            }
            Err(message) => {
                let errors = [input_error(Some(name), &message)];
                LinearAnswer::new(200, json!({"data": null, "errors": errors}).to_string())
            }
        }
    }

    /// Mutations run one after the other, the first error ends them, and none of them can be null:
    /// the answers of those before go with it.
    fn batch(&mut self, variables: &serde_json::Map<String, Value>) -> LinearAnswer {
        if self.refuses_batches {
            let errors = [input_error(None, "too complex")];
            return LinearAnswer::new(400, json!({"errors": errors}).to_string());
        }
        let mut data = serde_json::Map::new();
        for index in 0..variables.len() {
            let input = json!({"input": variables[&format!("i{index}")]});
            let name = format!("a{index}");
            if let Err(message) = self.mutate(&input) {
                let errors = [input_error(Some(&name), &message)];
                return LinearAnswer::new(200, json!({"data": null, "errors": errors}).to_string());
            }
            data.insert(name, json!({"success": true}));
        }
        LinearAnswer::new(200, json!({"data": data}).to_string())
    }

    fn mutate(&mut self, variables: &Value) -> Result<(), String> {
        let input = &variables["input"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let session = text(&input["agentSessionId"]).or_else(|| text(&variables["id"]));
        let lane = session
            .clone()
            .or_else(|| text(&input["parentId"]))
            .or_else(|| text(&input["commentId"]))
            .or_else(|| text(&input["issueId"]))
            .unwrap_or_default();
        let said = text(&input["content"]["body"])
            .or_else(|| text(&input["body"]))
            .or_else(|| text(&input["emoji"]))
            .or_else(|| text(&input["content"]["action"]))
            .unwrap_or_else(|| input.to_string());
        // A session's change has no id of its own, and is the same again.
        let id = text(&input["id"]).unwrap_or_else(|| input.to_string());
        *self.tries.entry(id.clone()).or_default() += 1;
        if session.is_some_and(|session| self.gone.contains(&session)) {
            self.refused.insert(id, said);
            return Err("Entity not found: AgentSession".into());
        }
        if self.unwanted.contains(&said) {
            self.refused.insert(id, said);
            return Err("Argument Validation Error".into());
        }
        if self.made.iter().any(|(made, _, _)| *made == id) {
            let is_repeatable = input["id"].is_null() || !self.refuses_repeated;
            return if is_repeatable { Ok(()) } else { Err("Entity already exists".into()) };
        }
        self.made.push((id, lane, said));
        Ok(())
    }
}
