mod refresh;

use relay_schemas::{
    AppState, AppStatus, Granted, SecretText, UnixMillis, UserId,
    linear_api::{RateBudget, TokenGrant},
};
use serde::{Deserialize, Serialize};

pub use self::refresh::RefreshForm;
use self::refresh::Refreshing;
use super::vault::{Random, SealedText, Vault};

/// The longest that a rate limit is believed; Linear's periods are hours.
const RATE_LIMIT_MS_MAX: u64 = 2 * 3_600_000;

/// An app's tokens as they are stored. The pair before stays until the new access token has worked
/// once: Linear repeats its answer to an old refresh token for half an hour, so that a pair that
/// was lost on its way, or is no good, is got again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredGrant {
    app: String,
    #[serde(default)]
    name: Option<String>,
    /// What webhooks call the app; learnt from the first that names its user.
    #[serde(default)]
    client: Option<String>,
    app_user: UserId,
    scopes: Vec<String>,
    state: AppState,
    access: Option<SealedText>,
    refresh: Option<SealedText>,
    #[serde(default)]
    previous: Option<SealedText>,
    refreshed_at: UnixMillis,
    expires_at: UnixMillis,
    #[serde(default)]
    is_proven: bool,
    /// When it was installed, the last time.
    #[serde(default)]
    granted_at: Option<UnixMillis>,
}

/// An app's tokens, and how their refresh stands. A state here that is not stored begins anew when
/// the object does: the refresh that was under way is asked for again with the same token, and
/// Linear gives the same answer.
pub(super) struct Grant {
    stored: StoredGrant,
    access: Option<SecretText>,
    refresh: Option<SecretText>,
    previous: Option<SecretText>,
    /// Counts the pairs since the object was loaded, so that a refusal of an old one is told apart.
    generation: u64,
    refreshing: Option<Refreshing>,
    is_refused: bool,
    failures: u32,
    not_before: UnixMillis,
    use_previous: bool,
    has_tried_previous: bool,
    error: Option<String>,
    pub(super) budget: RateBudget,
    limited_until: UnixMillis,
}

impl Grant {
    /// The tokens of an app that was just installed.
    pub(super) fn new(
        granted: &Granted,
        vault: Vault<'_>,
        now: UnixMillis,
        random: Random<'_>,
    ) -> Self {
        let stored = StoredGrant {
            app: granted.app.clone(),
            name: granted.name.clone(),
            client: None,
            app_user: granted.app_user.clone(),
            scopes: granted.scopes.clone(),
            state: AppState::Ready,
            access: None,
            refresh: None,
            previous: None,
            refreshed_at: now,
            expires_at: now,
            is_proven: false,
            granted_at: Some(now),
        };
        let mut grant = Self::with(stored);
        let pair = TokenGrant {
            access: granted.access_token.clone(),
            refresh: granted.refresh_token.clone(),
            expires_in_s: granted.expires_in_s,
            scopes: granted.scopes.clone(),
        };
        grant.take(pair, vault, now, random);
        grant
    }

    fn with(stored: StoredGrant) -> Self {
        Self {
            stored,
            access: None,
            refresh: None,
            previous: None,
            generation: 0,
            refreshing: None,
            is_refused: false,
            failures: 0,
            not_before: UnixMillis::default(),
            use_previous: false,
            has_tried_previous: false,
            error: None,
            budget: RateBudget::default(),
            limited_until: UnixMillis::default(),
        }
    }

    /// Reads a stored grant. `true`: it lay under an old key, and is to be stored again.
    pub(super) fn load(text: &str, vault: Vault<'_>, random: Random<'_>) -> Option<(Self, bool)> {
        let stored: StoredGrant = serde_json::from_str(text).ok()?;
        let mut grant = Self::with(stored);
        let app = grant.stored.app.clone();
        let mut is_resealed = false;
        let mut open = |which: &str, sealed: &mut Option<SealedText>| {
            let secret = vault.open(&app, which, sealed.as_ref())?;
            if sealed.as_ref().is_some_and(|sealed| vault.is_old(sealed)) {
                *sealed = Some(vault.seal(&app, which, &secret, random));
                is_resealed = true;
            }
            Some(secret)
        };
        grant.access = open("access", &mut grant.stored.access);
        grant.refresh = open("refresh", &mut grant.stored.refresh);
        grant.previous = open("refresh", &mut grant.stored.previous);
        let is_locked = (grant.stored.access.is_some() && grant.access.is_none())
            || (grant.stored.refresh.is_some() && grant.refresh.is_none());
        if is_locked {
            grant.error = Some("the key that the tokens were stored under is gone".into());
        }
        Some((grant, is_resealed))
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(&self.stored).expect("plain fields serialise")
    }

    fn take(&mut self, pair: TokenGrant, vault: Vault<'_>, now: UnixMillis, random: Random<'_>) {
        let app = self.stored.app.clone();
        self.stored.access = Some(vault.seal(&app, "access", &pair.access, random));
        self.access = Some(pair.access);
        if let Some(refresh) = pair.refresh {
            self.stored.refresh = Some(vault.seal(&app, "refresh", &refresh, random));
            self.refresh = Some(refresh);
        }
        if !pair.scopes.is_empty() {
            self.stored.scopes = pair.scopes;
        }
        self.stored.refreshed_at = now;
        self.stored.expires_at = now + pair.expires_in_s.saturating_mul(1000);
        self.stored.is_proven = false;
        self.generation += 1;
        self.is_refused = false;
        self.error = None;
    }

    pub(super) fn app(&self) -> &str {
        &self.stored.app
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.stored.state == AppState::Revoked
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state() == AppState::Ready
    }

    fn state(&self) -> AppState {
        let is_empty = self.access.is_none() && self.refresh.is_none();
        if self.stored.state == AppState::Ready && is_empty {
            return AppState::NeedsSignIn;
        }
        self.stored.state
    }

    pub(super) fn is_of_user(&self, app_user: &str) -> bool {
        self.stored.app_user.as_str() == app_user
    }

    pub(super) fn is_called(&self, app: &str) -> bool {
        self.stored.app == app || self.stored.client.as_deref() == Some(app)
    }

    /// Remembers what webhooks call the app. `true`: that is new, and to be stored.
    pub(super) fn learn_client(&mut self, client: &str) -> bool {
        if self.stored.client.as_deref() == Some(client) {
            return false;
        }
        self.stored.client = Some(client.to_owned());
        true
    }

    /// Whether it was installed before `at`; of what doesn't say when it was, that is believed.
    pub(super) fn was_there(&self, at: Option<UnixMillis>) -> bool {
        at.zip(self.stored.granted_at).is_none_or(|(at, granted_at)| granted_at <= at)
    }

    pub(super) fn has_client(&self) -> bool {
        self.stored.client.is_some()
    }

    /// Takes the place of an earlier grant of the same app: what is answered to requests with the
    /// tokens of before says nothing about the new ones.
    pub(super) fn follow(&mut self, before: &Self) {
        self.generation = before.generation + 1;
        self.stored.client = before.stored.client.clone();
    }

    /// What a request carries, while it is good: also while a person is asked to sign in.
    pub(super) fn token(&self, now: UnixMillis) -> Option<(u64, SecretText)> {
        let is_good = !self.is_revoked() && !self.is_refused && now < self.stored.expires_at;
        is_good.then(|| Some((self.generation, self.access.clone()?)))?
    }

    /// Until when Linear takes no request to an endpoint.
    pub(super) fn closed_until(&self, endpoint: &str, now: UnixMillis) -> UnixMillis {
        self.budget.spent_until(endpoint, now).unwrap_or_default().max(self.limited_until)
    }

    /// Linear takes nothing until then. Where it is the endpoint's own limit, its budget tells.
    pub(super) fn limit(&mut self, endpoint: &str, until: UnixMillis, now: UnixMillis) {
        if !self.budget.is_spent_alone(endpoint, now) {
            self.limited_until = self.limited_until.max(until.min(now + RATE_LIMIT_MS_MAX));
        }
    }

    /// What revokes an app elsewhere may have revoked this one: its token is looked at again.
    pub(super) fn doubt(&mut self) {
        self.is_refused = true;
    }

    /// Forgets the tokens.
    pub(super) fn revoke(&mut self) {
        self.stored.state = AppState::Revoked;
        self.stored.access = None;
        self.stored.refresh = None;
        self.stored.previous = None;
        self.access = None;
        self.refresh = None;
        self.previous = None;
        self.refreshing = None;
        self.generation += 1;
    }

    pub(super) fn status(&self) -> AppStatus {
        AppStatus {
            app: self.stored.app.clone(),
            name: self.stored.name.clone(),
            app_user: self.stored.app_user.clone(),
            state: self.state(),
            expires_at: self.stored.expires_at,
            refreshed_at: self.stored.refreshed_at,
            refresh_error: self.error.clone(),
            scopes: self.stored.scopes.clone(),
        }
    }
}
