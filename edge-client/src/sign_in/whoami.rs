use std::{fmt::Write, time::Duration};

use serde_json::{Map, Value};

use super::{CommandError, Said};
use crate::{
    access::Access,
    config::Settings,
    connection::Answer,
    relay::{self, Relay},
};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Says who this machine is to its relay, in the relay's own words.
pub async fn whoami(settings: &Settings) -> Result<Said, CommandError> {
    let relay = Relay::new(&settings.relay.value);
    let access = Access::open(settings).await?;
    let http = relay::http(settings, &access)?;
    let request = http.get(relay.route("/machines/self")).timeout(ANSWER_TIMEOUT);
    let answered = http.send(request).await;
    access.settled().await;
    let response = answered?;
    if !response.status().is_success() {
        return Err(Answer::read(response).await.fault().into());
    }
    let machine: Map<String, Value> = response
        .json()
        .await
        .map_err(|_| CommandError::Passing("the answer is not a relay's".into()))?;
    let mut json = Map::new();
    json.insert("relay".into(), relay.base().into());
    json.insert("credential".into(), access.origin().into());
    json.extend(machine);
    let mut text = String::new();
    for (name, value) in &json {
        let _ = writeln!(text, "{:<14} {}", name.replace('_', " "), shown(value));
    }
    Ok(Said { text: text.trim_end().to_owned(), json: Value::Object(json) })
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".into(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(members) => match (members.get("name"), members.get("id")) {
            (Some(name), Some(id)) => format!("{} ({})", shown(name), shown(id)),
            _ => value.to_string(),
        },
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
