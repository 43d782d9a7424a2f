//! Getting tokens, keeping them, and losing them.

use relay_schemas::{
    Counter, Granted, Revoked, RevokedReply, ToldOfEnd, UnixMillis,
    linear_api::{LinearAnswer, TokenOutcome},
};

use super::{
    Grant, Installation, Random,
    storage::{InstallationRow, InstallationStorage},
    vault,
};

impl<S: InstallationStorage> Installation<S> {
    pub(super) fn load_grants(&mut self, random: Random<'_>) -> Result<(), S::Error> {
        let Some(organization) = self.organization.clone() else { return Ok(()) };
        for (app, text) in self.storage.all(InstallationRow::Grant)? {
            let vault = vault(&self.settings, &organization);
            let Some((grant, is_resealed)) = Grant::load(&text, vault, random) else { continue };
            self.grants.insert(app.clone(), grant);
            if is_resealed {
                self.save_grant(&app)?;
            }
        }
        Ok(())
    }

    fn save_grant(&mut self, app: &str) -> Result<(), S::Error> {
        let Some(grant) = self.grants.get(app) else { return Ok(()) };
        self.storage.put(InstallationRow::Grant, app, &grant.to_text(), None)
    }

    /// An app was installed, or installed again: what waits goes on.
    pub fn granted(
        &mut self,
        granted: &Granted,
        now: UnixMillis,
        random: Random<'_>,
    ) -> Result<(), S::Error> {
        self.put(InstallationRow::Head, "", &granted.organization, None)?;
        self.organization = Some(granted.organization.clone());
        let vault = vault(&self.settings, &granted.organization);
        let mut grant = Grant::new(granted, vault, now, random);
        if let Some(before) = self.grants.get(&granted.app) {
            grant.follow(before);
        }
        self.grants.insert(granted.app.clone(), grant);
        self.forget_told_of_end()?;
        self.save_grant(&granted.app)
    }

    /// An app was taken away: its tokens are deleted, and what waits for it is given up. A name
    /// that no grant is known by may be that of any whose name isn't known yet: if that isn't the
    /// only one, each of their tokens is looked at again. What was installed since is not meant:
    /// the queue may bring the word of an app's end late, and more than once.
    pub fn revoked(
        &mut self,
        revoked: &Revoked,
        now: UnixMillis,
    ) -> Result<RevokedReply, S::Error> {
        let called = self.grants.values().find(|grant| grant.is_called(&revoked.app));
        let only = self.grants.values().next().filter(|_| self.grants.len() == 1);
        match called.or(only.filter(|grant| !grant.has_client())) {
            Some(grant) if grant.was_there(revoked.at) => {
                let app = grant.app().to_owned();
                self.revoke(&app, now)?;
            }
            Some(_) => {}
            None => {
                let unnamed = self.grants.values_mut().filter(|grant| !grant.has_client());
                unnamed.filter(|grant| grant.was_there(revoked.at)).for_each(Grant::doubt);
            }
        }
        Ok(RevokedReply {
            is_uninstalled: !self.grants.is_empty() && !self.has_app(),
            told_up_to: self.storage.get(InstallationRow::ToldOfEnd, "")?,
        })
    }

    fn revoke(&mut self, app: &str, now: UnixMillis) -> Result<(), S::Error> {
        if let Some(grant) = self.grants.get_mut(app).filter(|grant| !grant.is_revoked()) {
            grant.revoke();
            self.forget_told_of_end()?;
            self.save_grant(app)?;
        }
        for number in self.outbox.idle_where(|call| call.app == app) {
            self.give_up(number, ("revoked", ""), now)?;
        }
        Ok(())
    }

    /// So far the organization's streams were told that no app is left.
    pub fn told_of_end(&mut self, told: &ToldOfEnd) -> Result<(), S::Error> {
        self.put_text(InstallationRow::ToldOfEnd, "", &told.up_to, None)
    }

    fn forget_told_of_end(&mut self) -> Result<(), S::Error> {
        if self.storage.get(InstallationRow::ToldOfEnd, "")?.is_some() {
            self.storage.delete(InstallationRow::ToldOfEnd, "")?;
        }
        Ok(())
    }

    /// The app whose user is meant; if none is named, the one called so, else the only one. What webhooks call
    /// it is learnt on the way: a revocation names it so.
    pub(super) fn app_of(
        &mut self,
        app_user: Option<&str>,
        client: Option<&str>,
    ) -> Result<Option<String>, S::Error> {
        let live = || self.grants.iter().filter(|(_, grant)| !grant.is_revoked());
        let of_user = live().find(|(_, grant)| app_user.is_some_and(|user| grant.is_of_user(user)));
        // Another app's user is nobody's here: its sessions are not ours to answer.
        let others = || live().filter(|_| app_user.is_none());
        let called = others().find(|(_, grant)| client.is_some_and(|app| grant.is_called(app)));
        let only = others().next().filter(|_| live().count() == 1);
        let is_sure = of_user.is_some();
        let app = of_user.or(called).or(only).map(|(app, _)| app.clone());
        if let (true, Some(app), Some(client)) = (is_sure, &app, client)
            && self.grants.get_mut(app).is_some_and(|grant| grant.learn_client(client))
        {
            self.save_grant(app)?;
        }
        Ok(app)
    }

    /// The token endpoint has answered; `None`: the request has failed on its way.
    pub fn refreshed(
        &mut self,
        (app, request): (&str, u64),
        answer: Option<&LinearAnswer>,
        now: UnixMillis,
        random: Random<'_>,
    ) -> Result<(), S::Error> {
        let Some(organization) = &self.organization else { return Ok(()) };
        let vault = vault(&self.settings, organization);
        let Some(grant) = self.grants.get_mut(app) else { return Ok(()) };
        // An answer to a refresh of tokens that were replaced or revoked since.
        if !grant.is_refreshing(request) {
            return Ok(());
        }
        let unreachable = TokenOutcome::Passing { retry_after_ms: None };
        let outcome = answer.map_or(unreachable, TokenOutcome::of);
        self.counts.add(Counter::LinearRefreshes(refresh_result(&outcome)), 1);
        match outcome {
            TokenOutcome::Granted(pair) => {
                grant.refreshed(pair, vault, now, random);
                self.save_grant(app)?;
            }
            TokenOutcome::Dead => {
                grant.refresh_died(self.settings.has_client_credentials, now);
                self.save_grant(app)?;
            }
            TokenOutcome::Refused { code } => grant.refresh_failed(None, code, now),
            TokenOutcome::Passing { retry_after_ms } => {
                grant.refresh_failed(retry_after_ms, "linear_unavailable".into(), now);
            }
        }
        Ok(())
    }

    /// Tokens that ended and that nothing can replace.
    pub(super) fn note_lost_grants(&mut self, now: UnixMillis) -> Result<(), S::Error> {
        let has_client_credentials = self.settings.has_client_credentials;
        let is_lost =
            |grant: &Grant| grant.ends_at(has_client_credentials).is_some_and(|at| at <= now);
        let lost = self.grants.iter().filter(|(_, grant)| is_lost(grant));
        let lost: Vec<String> = lost.map(|(app, _)| app.clone()).collect();
        for app in lost {
            if let Some(grant) = self.grants.get_mut(&app) {
                grant.need_sign_in();
            }
            self.save_grant(&app)?;
        }
        Ok(())
    }

    /// A request with this token has worked; the pair before is no longer needed.
    pub(super) fn note_worked(&mut self, app: &str, generation: u64) -> Result<(), S::Error> {
        if self.grants.get_mut(app).is_some_and(|grant| grant.worked(generation)) {
            self.save_grant(app)?;
        }
        Ok(())
    }
}

fn refresh_result(outcome: &TokenOutcome) -> &'static str {
    match outcome {
        TokenOutcome::Granted(_) => "refreshed",
        TokenOutcome::Dead => "invalid_grant",
        TokenOutcome::Refused { .. } => "refused",
        TokenOutcome::Passing { .. } => "failed",
    }
}
