use std::collections::BTreeMap;

use futures::future::join_all;
use relay_durable::{EventFacts, Rule, Target};
use relay_schemas::{EventId, OrganizationId, Returned};
use serde_json::json;
use worker::{Env, Error};

use super::{Decoded, Failure};
use crate::{
    directory_object::{RouteAnswer, RouteCommand, RouteReply},
    log::{self, Level},
    stream_client::ask,
};

/// An event, and where it goes.
pub(super) type Answered<'a> = (Decoded<'a>, Result<RouteAnswer, Failure>);

/// Step 3. What a stream gave up goes back there without being asked for.
pub(super) async fn route<'a>(events: Vec<Decoded<'a>>, env: &Env) -> Vec<Answered<'a>> {
    let mut organizations: BTreeMap<OrganizationId, Vec<Decoded<'a>>> = BTreeMap::new();
    let mut answered = Vec::new();
    for event in events {
        match &event.header.returned {
            Some(returned) => {
                let answer = back_to(event.header.id, returned);
                answered.push((event, Ok(answer)));
            }
            None => organizations.entry(event.organization.clone()).or_default().push(event),
        }
    }
    let calls = organizations.into_iter().map(|(organization, events)| async move {
        let answers = ask_directory(&organization, &events, env).await;
        events.into_iter().zip(answers)
    });
    answered.extend(join_all(calls).await.into_iter().flatten());
    answered
}

fn back_to(id: EventId, returned: &Returned) -> RouteAnswer {
    let rule = returned.routed_by.as_deref().map_or(Rule::Other, Rule::of_name);
    let target = Target { channel: returned.channel.clone(), rule };
    RouteAnswer { id, targets: vec![target], own: returned.own }
}

/// One answer for each event. An organization whose directory can't be asked holds up no other.
async fn ask_directory(
    organization: &OrganizationId,
    events: &[Decoded<'_>],
    env: &Env,
) -> Vec<Result<RouteAnswer, Failure>> {
    let command = RouteCommand {
        events: events
            .iter()
            .map(|event| EventFacts {
                id: event.header.id,
                facts: event.facts.clone(),
                reroute: event.header.reroute.clone(),
            })
            .collect(),
    };
    let asked = async {
        let body = serde_json::to_string(&command)?;
        let reply: RouteReply =
            ask(env, "DIRECTORIES", organization.as_str(), "/route", body).await?;
        let answers = || reply.decisions.iter().map(|answer| answer.id);
        if !answers().eq(command.events.iter().map(|event| event.id)) {
            return Err(Error::RustError("the directory answers about other events".into()));
        }
        Ok::<_, Error>(reply.decisions)
    };
    match asked.await {
        Ok(decisions) => decisions.into_iter().map(Ok).collect(),
        Err(error) => {
            let text: String = error.to_string().chars().take(200).collect();
            let fields = json!({
                "organization": organization.as_str(),
                "error": text,
                "request_ids": events.iter().map(|event| &event.header.request_id).collect::<Vec<_>>(),
            });
            log::line(Level::Warn, "routing_failed", "", fields);
            let failure = Failure::Passing(format!("directory_unavailable: {text}"));
            events.iter().map(|_| Err(failure.clone())).collect()
        }
    }
}
