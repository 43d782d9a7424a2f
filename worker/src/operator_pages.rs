use relay_schemas::{EdgeId, ErrorCode, KindFilter, PageCommand, PageQuery, Problem, StreamKey};
use worker::Response;

use crate::{call::Call, events, operations::stream_named};

/// `GET /admin/streams/{organization}/{channel}/events`: a page of any stream, `unrouted` included.
pub(crate) async fn page(
    call: &mut Call,
    organization: &str,
    channel: &str,
) -> Result<Response, Problem> {
    let stream = stream_named(organization, channel)?;
    let pairs = call.query();
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let query = PageQuery::parse(pairs, call.now)?;
    if query.channel.is_some() {
        let message = "the address names the channel";
        return Err(Problem::new(ErrorCode::ParameterUnknown, message).with("parameter", "channel"));
    }
    events::answer_page(call, command(stream, query)).await
}

/// An operator's command to a stream. No edge has this name: theirs begin with `edge_`.
pub(crate) fn command(stream: StreamKey, query: PageQuery) -> PageCommand {
    let edge: EdgeId = "operator".parse().expect("a plain word");
    let allowed = KindFilter::default();
    PageCommand { stream, edge, allowed, query, events: 0, bytes: 0 }
}
