use relay_schemas::{
    AppState, SecretText, UnixMillis, limits::REFRESH_REPLAY_MS, linear_api::TokenGrant,
};

use super::{Grant, Random, Vault};

/// The first pause before a refresh is tried again, and the longest. It doubles.
const REFRESH_RETRY_MS: (u64, u64) = (1_000, 300_000);

#[derive(Clone, Copy)]
pub(super) struct Refreshing {
    request: u64,
    with_previous: bool,
}

/// What the token endpoint is asked for; the shell adds who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshForm {
    /// The next pair.
    RefreshToken(SecretText),
    /// An app's own token.
    ClientCredentials {
        /// What it is to allow, separated by commas.
        scope: String,
    },
}

/// How an app's tokens are followed by others.
impl Grant {
    /// When a refresh is due; `None` when it is under way, or can't be.
    pub(in crate::installation) fn refresh_at(
        &self,
        has_client_credentials: bool,
    ) -> Option<UnixMillis> {
        if self.refreshing.is_some() || !self.is_renewable(has_client_credentials) {
            return None;
        }
        let life_ms = self.stored.expires_at.since_ms(self.stored.refreshed_at);
        let due = if self.is_refused || self.access.is_none() {
            UnixMillis::default()
        } else {
            self.stored.refreshed_at + life_ms / 5 * 4
        };
        Some(due.max(self.not_before))
    }

    /// Whether another token can be got without a person.
    fn is_renewable(&self, has_client_credentials: bool) -> bool {
        self.is_ready() && (self.refresh.is_some() || has_client_credentials)
    }

    /// When its token ends, if nothing can get another.
    pub(in crate::installation) fn ends_at(
        &self,
        has_client_credentials: bool,
    ) -> Option<UnixMillis> {
        let is_last = self.access.is_some() && !self.is_renewable(has_client_credentials);
        let ends_at = if self.is_refused { UnixMillis::default() } else { self.stored.expires_at };
        is_last.then_some(ends_at)
    }

    /// Its last token is no good any more.
    pub(in crate::installation) fn need_sign_in(&mut self) {
        self.stored.state = AppState::NeedsSignIn;
        self.stored.access = None;
        self.access = None;
    }

    /// Begins a refresh; there is no second one until its answer, or until the object is loaded
    /// again.
    pub(in crate::installation) fn begin_refresh(
        &mut self,
        request: u64,
        now: UnixMillis,
    ) -> RefreshForm {
        let with_previous = self.use_previous && self.can_use_previous(now);
        self.use_previous = false;
        self.has_tried_previous |= with_previous;
        self.refreshing = Some(Refreshing { request, with_previous });
        let token = if with_previous { &self.previous } else { &self.refresh };
        match token {
            Some(token) => RefreshForm::RefreshToken(token.clone()),
            None => RefreshForm::ClientCredentials { scope: self.stored.scopes.join(",") },
        }
    }

    pub(in crate::installation) fn is_refreshing(&self, request: u64) -> bool {
        self.refreshing.is_some_and(|refreshing| refreshing.request == request)
    }

    fn can_use_previous(&self, now: UnixMillis) -> bool {
        self.previous.is_some()
            && !self.stored.is_proven
            && !self.has_tried_previous
            && now.since_ms(self.stored.refreshed_at) < REFRESH_REPLAY_MS
    }

    /// The new pair. It is stored by the caller before anything is done with it; a crash here
    /// means that the same refresh is asked for again.
    pub(in crate::installation) fn refreshed(
        &mut self,
        pair: TokenGrant,
        vault: Vault<'_>,
        now: UnixMillis,
        random: Random<'_>,
    ) {
        let with_previous = self.refreshing.take().is_some_and(|refresh| refresh.with_previous);
        if !with_previous && pair.refresh.is_some() {
            self.previous = self.refresh.take();
            self.stored.previous = self.stored.refresh.take();
            self.has_tried_previous = false;
        }
        self.take(pair, vault, now, random);
        // Tokens that are refused although they are new are not asked for without a pause.
        self.not_before = now + if self.failures == 0 { 0 } else { pause_ms(self.failures) };
    }

    /// The refresh token is dead, which is stored by the caller. One that another was tried before
    /// has its turn; then the app asks for a token of its own, if it may; then a person has to sign
    /// in. The access token is good until its own end.
    pub(in crate::installation) fn refresh_died(
        &mut self,
        has_client_credentials: bool,
        now: UnixMillis,
    ) {
        let with_previous = self.refreshing.take().is_some_and(|refresh| refresh.with_previous);
        self.not_before = now;
        if with_previous {
            return;
        }
        if self.can_use_previous(now) {
            self.use_previous = true;
            return;
        }
        let was_own = self.refresh.is_none();
        self.refresh = None;
        self.stored.refresh = None;
        self.error = Some("invalid_grant".into());
        if was_own || !has_client_credentials {
            self.stored.state = AppState::NeedsSignIn;
        }
    }

    /// Linear gave no answer, or none about the token; `wait_ms` is how long it asks to wait.
    pub(in crate::installation) fn refresh_failed(
        &mut self,
        wait_ms: Option<u64>,
        error: String,
        now: UnixMillis,
    ) {
        let refreshing = self.refreshing.take();
        // Whatever it was that failed, it says nothing about the token: the same is tried again.
        if refreshing.is_some_and(|refreshing| refreshing.with_previous) {
            self.use_previous = true;
            self.has_tried_previous = false;
        }
        self.failures = self.failures.saturating_add(1);
        let (first, longest) = REFRESH_RETRY_MS;
        let asked_ms = wait_ms.map(|wait_ms| wait_ms.clamp(first, longest));
        self.not_before = now + asked_ms.unwrap_or_else(|| pause_ms(self.failures));
        self.error = Some(error);
    }

    /// A request with the token of this generation was answered 401.
    pub(in crate::installation) fn refused(&mut self, generation: u64, now: UnixMillis) {
        if generation != self.generation || self.is_refused {
            return;
        }
        self.is_refused = true;
        if self.stored.is_proven {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.use_previous = self.can_use_previous(now);
    }

    /// A request with the token of this generation worked. `true`: for the first time, which is
    /// to be stored.
    pub(in crate::installation) fn worked(&mut self, generation: u64) -> bool {
        if generation != self.generation {
            return false;
        }
        self.failures = 0;
        if self.stored.is_proven {
            return false;
        }
        self.stored.is_proven = true;
        self.stored.previous = None;
        self.previous = None;
        true
    }
}

fn pause_ms(failures: u32) -> u64 {
    let (first, longest) = REFRESH_RETRY_MS;
    (first << failures.saturating_sub(1).min(20)).min(longest)
}
