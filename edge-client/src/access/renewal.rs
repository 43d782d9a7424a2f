use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use relay_schemas::UnixMillis;
use reqwest::Client;
use tokio::{
    sync::Mutex as Flight,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{Grant, TokenAnswer, ask_for_tokens, blocking, refused_words};
use crate::{
    clock::wall,
    credential::{Credential, CredentialStore, Lock, Place, Secret, SignIn},
    fault::{Fault, Refusal, RefusalKind},
    limits::REFRESH_RETRY_MS,
    relay::Relay,
};

/// Between two looks whether another process has let go of the lock.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Longer than one refresh takes; then whoever holds it is stuck.
const LOCK_TIMEOUT: Duration = Duration::from_secs(45);

/// How long an ending client waits for a refresh that is under way.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A sign-in that is kept alive: one refresh at a time in this process, and by the store's lock
/// one in all processes.
#[derive(Debug)]
pub(super) struct Renewal {
    client: Client,
    relay: Relay,
    store: CredentialStore,
    flight: Arc<Flight<()>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Credential,
    place: Place,
    unsaved: Option<Unsaved>,
    /// After a failure, while the current one still lasts.
    next_at: UnixMillis,
}

/// A pair that the store did not take. It must get there before the next is asked for: the token
/// that it replaces may work no more.
#[derive(Clone, Debug)]
struct Unsaved {
    sign_in: SignIn,
    /// The refresh token that it was got with: what is stored is older only as long as it is this.
    replaces: Secret,
}

impl Renewal {
    pub(super) fn new(
        client: Client,
        relay: Relay,
        store: CredentialStore,
        place: Place,
        current: Credential,
    ) -> Self {
        let state = State { current, place, unsaved: None, next_at: UnixMillis::new(0) };
        Self { client, relay, store, flight: Arc::default(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    pub(super) fn current(&self) -> Credential {
        self.state().current.clone()
    }

    pub(super) fn place(&self) -> Place {
        self.state().place
    }

    pub(super) async fn settled(&self) {
        let _ = timeout(SETTLE_TIMEOUT, self.flight.lock()).await;
    }

    /// One that lasts for some time to come, or at least for now when the relay is away.
    pub(super) async fn fresh(this: &Arc<Self>) -> Result<Credential, Fault> {
        let now = wall();
        let (current, next_at) = {
            let state = this.state();
            (state.current.clone(), state.next_at)
        };
        let is_usable = !current.is_expired(now);
        if current.is_fresh(now) || (is_usable && now < next_at) {
            return Ok(current);
        }
        match Self::renew(this, &current).await {
            Err(Fault::Passing { message, .. }) if is_usable => {
                info!("the credential can't be refreshed yet: {message}");
                this.state().next_at = now + REFRESH_RETRY_MS;
                Ok(current)
            }
            renewed => renewed,
        }
    }

    /// The credential after `seen`. Its task goes on when nobody waits any more: between the
    /// relay's answer and the store nothing may stop it but the process' end.
    pub(super) async fn renew(this: &Arc<Self>, seen: &Credential) -> Result<Credential, Fault> {
        let (this, seen) = (Arc::clone(this), seen.clone());
        let flight = Arc::clone(&this.flight);
        let renewing = tokio::spawn(async move {
            let _flight = flight.lock_owned().await;
            let current = this.current();
            if !current.is_same(&seen) {
                return Ok(current);
            }
            this.renew_alone(&seen).await
        });
        match renewing.await {
            Ok(renewed) => renewed,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Fault::passing("the client is ending")),
        }
    }

    async fn renew_alone(&self, seen: &Credential) -> Result<Credential, Fault> {
        let _lock = self.lock().await?;
        let (store, relay) = (self.store.clone(), self.relay.base().to_owned());
        let place = self.place();
        let found = blocking(move || store.reload(&relay, place)).await.map_err(Fault::passing)?;
        let unsaved = self.state().unsaved.take();
        let Some((stored, place)) = found else {
            return Err(gone("edgerelay logout was run on this machine"));
        };
        let credential = stored.credential().map_err(|_| gone("the stored sign-in is broken"))?;
        if credential.claims().sub != seen.claims().sub {
            return Err(gone("another machine is signed in here now: start edgerelay again"));
        }
        self.state().place = place;
        // Unless another process has put one in its place meanwhile, which is newer.
        if let Some(unsaved) = unsaved.filter(|unsaved| unsaved.replaces == stored.refresh_token) {
            return self.keep(unsaved).await;
        }
        if !credential.is_same(seen) && credential.is_fresh(wall()) {
            debug!("another process has refreshed the credential");
            self.state().current = credential.clone();
            return Ok(credential);
        }
        let grant = self.refresh(&stored).await?;
        self.keep(Unsaved { sign_in: grant.sign_in(), replaces: stored.refresh_token }).await
    }

    async fn lock(&self) -> Result<Lock, Fault> {
        let locking = async {
            loop {
                match self.store.try_lock() {
                    Ok(Some(lock)) => return Ok(lock),
                    Ok(None) => sleep(LOCK_POLL).await,
                    Err(error) => return Err(Fault::passing(error)),
                }
            }
        };
        let stuck = |_| Err(Fault::passing("another edgerelay is refreshing the credential"));
        timeout(LOCK_TIMEOUT, locking).await.unwrap_or_else(stuck)
    }

    async fn refresh(&self, stored: &SignIn) -> Result<Grant, Fault> {
        let refresh_token = stored.refresh_token.expose();
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        match ask_for_tokens(&self.client, &self.relay, &form).await {
            TokenAnswer::Granted(grant) => Ok(*grant),
            TokenAnswer::Refused { error, code } => {
                Err(Fault::Terminal(refused_words(error, code)))
            }
            TokenAnswer::Failed(fault) => Err(fault),
        }
    }

    /// Stores a new pair before anything uses it. A crash before the store means that the next
    /// start presents the earlier refresh token, which the relay takes until the new pair is used.
    async fn keep(&self, unsaved: Unsaved) -> Result<Credential, Fault> {
        let credential = unsaved
            .sign_in
            .credential()
            .map_err(|_| Fault::passing("the relay's answer holds no credential"))?;
        let (store, relay) = (self.store.clone(), self.relay.base().to_owned());
        let (new, place) = (unsaved.sign_in.clone(), self.place());
        let stored = blocking(move || store.replace(&relay, &new, place)).await;
        let mut state = self.state();
        if let Err(error) = stored {
            warn!("the refreshed credential can't be stored yet: {error}");
            state.unsaved = Some(unsaved);
            return Err(Fault::passing(format!("the credential can't be stored: {error}")));
        }
        state.current = credential.clone();
        debug!("the credential is refreshed");
        Ok(credential)
    }
}

fn gone(message: &str) -> Fault {
    Fault::Terminal(Refusal {
        kind: RefusalKind::Credential,
        code: "signed_out".into(),
        message: message.into(),
    })
}
