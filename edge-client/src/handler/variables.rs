use relay_schemas::Webhook;

use crate::event::Event;

/// The variables are part of the interface: README.md lists them.
pub(super) fn variables(
    webhook: &Webhook<'_>,
    event: &Event,
    attempt: u32,
) -> Vec<(&'static str, Option<String>)> {
    let headers = serde_json::to_string(&webhook.headers).unwrap_or_default();
    let assigned = (webhook.attempt > 1).then(|| webhook.attempt.to_string());
    let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
    let mut variables = vec![
        ("EDGERELAY_EVENT_ID", Some(event.id().to_string())),
        ("EDGERELAY_KIND", Some(webhook.kind.to_string())),
        ("EDGERELAY_ORGANIZATION", Some(webhook.organization.to_string())),
        ("EDGERELAY_CHANNEL", Some(webhook.channel.to_string())),
        ("EDGERELAY_CURSOR", Some(event.cursor().to_string())),
        ("EDGERELAY_TIMESTAMP", Some(webhook.timestamp.to_string())),
        ("EDGERELAY_DELIVERY", Some(webhook.delivery.as_deref().unwrap_or_default().to_owned())),
        ("EDGERELAY_SOURCE", Some(webhook.source.to_string())),
        ("EDGERELAY_ATTEMPT", Some(attempt.to_string())),
        ("EDGERELAY_HEADERS", Some(headers)),
        ("EDGERELAY_SESSION", text(&webhook.session)),
        ("EDGERELAY_ISSUE", text(&webhook.issue)),
        ("EDGERELAY_APP", text(&webhook.app)),
        ("EDGERELAY_OWN", webhook.own.then(|| "true".to_owned())),
        ("EDGERELAY_ROUTED_BY", text(&webhook.routed_by)),
        ("EDGERELAY_ASSIGNED_ATTEMPT", assigned),
    ];
    for value in variables.iter_mut().filter_map(|(_, value)| value.as_mut()) {
        // The one character that no variable can hold.
        value.retain(|character| character != '\0');
    }
    variables
}
