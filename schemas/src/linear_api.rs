//! Linear's API as the relay uses it: every document that is sent, and what an answer means.
//!
//! An error comes as HTTP 200 with `errors` more often than with a status of its own, and a rate
//! limit as HTTP 400: the body decides, and the status only where there is no such body.

mod answer;
mod budget;
mod outcome;
mod person;
mod token;

pub use answer::LinearAnswer;
pub use budget::{Allowance, RateBudget};
pub use outcome::{BatchOutcome, Outcome};
pub use person::PersonOutcome;
pub use token::{TokenGrant, TokenOutcome};

/// Whose token this is.
pub const VIEWER: &str = "query Viewer { viewer { id name email active admin app \
     organization { id name urlKey } } }";

/// A person and their teams.
pub const PERSON: &str = "query Person($id: String!) { user(id: $id) { id name active admin guest \
     teams(first: 250) { nodes { id key name private } } } }";

/// An activity in an agent session.
pub const AGENT_ACTIVITY_CREATE: &str = "mutation AgentActivityCreate($input: \
     AgentActivityCreateInput!) { agentActivityCreate(input: $input) { success } }";

/// A session's plan or links.
pub const AGENT_SESSION_UPDATE: &str = "mutation AgentSessionUpdate($id: String!, $input: \
     AgentSessionUpdateInput!) { agentSessionUpdate(id: $id, input: $input) { success } }";

/// A comment.
pub const COMMENT_CREATE: &str = "mutation CommentCreate($input: CommentCreateInput!) \
     { commentCreate(input: $input) { success } }";

/// A reaction.
pub const REACTION_CREATE: &str = "mutation ReactionCreate($input: ReactionCreateInput!) \
     { reactionCreate(input: $input) { success } }";

/// Every document that is sent, by its operation's name, besides those of
/// [`agent_activities_create`].
pub const DOCUMENTS: &[(&str, &str)] = &[
    ("Viewer", VIEWER),
    ("Person", PERSON),
    ("AgentActivityCreate", AGENT_ACTIVITY_CREATE),
    ("AgentSessionUpdate", AGENT_SESSION_UPDATE),
    ("CommentCreate", COMMENT_CREATE),
    ("ReactionCreate", REACTION_CREATE),
];

/// Several activities in one request: field `a0` creates from variable `$i0`, and so on.
pub fn agent_activities_create(count: usize) -> String {
    use std::fmt::Write;
    let mut variables = String::new();
    let mut fields = String::new();
    for index in 0..count {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(variables, "{comma}$i{index}: AgentActivityCreateInput!");
        let _ = write!(fields, "a{index}: agentActivityCreate(input: $i{index}) {{ success }} ");
    }
    format!("mutation AgentActivities({variables}) {{ {fields}}}")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::PathBuf};

    use super::*;

    #[test]
    fn a_batch_has_a_field_for_each() {
        assert_eq!(
            agent_activities_create(2),
            "mutation AgentActivities($i0: AgentActivityCreateInput!, \
             $i1: AgentActivityCreateInput!) { a0: agentActivityCreate(input: $i0) { success } \
             a1: agentActivityCreate(input: $i1) { success } }"
        );
    }

    #[test]
    fn each_document_has_its_operation_s_name() {
        for (name, document) in DOCUMENTS {
            let operation = document.split(' ').nth(1).unwrap();
            assert_eq!(operation.split('(').next(), Some(*name));
        }
    }

    /// Names that stand in the documents are looked up where Linear's schema lies beside the
    /// project; the fake Linear validates the documents as a whole.
    #[test]
    fn inputs_and_fields_are_linear_s() {
        let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
        let path = manifest.join("../../shared/facts/linear-schema.graphql");
        let Ok(schema) = fs::read_to_string(path) else { return };
        for text in [
            "  agentActivityCreate(",
            "  agentSessionUpdate(",
            "  commentCreate(",
            "  reactionCreate(",
            "input AgentActivityCreateInput {",
            "input AgentSessionUpdateInput {",
            "  signalMetadata: JSONObject",
            "  externalUrls: [AgentSessionExternalUrlInput!]",
        ] {
            assert!(schema.contains(text), "{text}");
        }
    }
}
