use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! rules {
    ($($(#[$documentation:meta])* $rule:ident = $label:literal,)*) => {
        /// Why an event goes where it goes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[$documentation])* $rule,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$rule),*];

            /// The rule's name in records, in the audit and in metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$rule => $label,)*
                }
            }
        }
    };
}

rules! {
    /// The person responsible for the agent session.
    SessionCreator = "session_creator",
    /// Who wrote the comment that started the session, or that is reacted to.
    CommentAuthor = "comment_author",
    /// Who wrote the comment that is answered.
    ParentCommentAuthor = "parent_comment_author",
    /// Who wrote the project update that is commented on or reacted to.
    UpdateAuthor = "update_author",
    /// Who prompted the agent.
    ActivityAuthor = "activity_author",
    /// To whom the issue is assigned.
    Assignee = "assignee",
    /// From whom the issue was taken, leaving it to nobody.
    PreviousAssignee = "previous_assignee",
    /// Who owns the initiative or customer.
    Owner = "owner",
    /// Who leads the project.
    Lead = "lead",
    /// The person that the event is about.
    TargetUser = "target_user",
    /// Who acted.
    Actor = "actor",
    /// Who wrote the comment, reaction or update itself.
    Author = "author",
    /// Who made the thing that changed.
    Creator = "creator",
    /// Where the agent session went from its beginning.
    SessionOwner = "session_owner",
    /// Where an agent session on this issue goes.
    IssueOwner = "issue_owner",
    /// The organization's one stream, because the strategy is `org`.
    Strategy = "strategy",
    /// The organization's stream under `hybrid`: the person has no machine, or there is none.
    NoMachine = "no_machine",
    /// A team whose channel somebody reads.
    Team = "team",
    /// The organization's default channel: the payload names nobody.
    Default = "default",
    /// An operator has said so.
    Operator = "operator",
    /// Nobody: it concerns the app's installation in the organization.
    OrganizationControl = "organization_control",
    /// Nobody: the payload names no person.
    Unrouted = "unrouted",
    /// Nobody: the table has no such type.
    UnknownType = "unknown_type",
    /// A rule of another version of the relay.
    Other = "other",
}

impl Rule {
    /// The rule of a name; [`Rule::Other`] for one that this version doesn't know.
    pub fn of_name(name: &str) -> Self {
        let known = Self::ALL.iter().find(|rule| rule.as_str() == name);
        known.copied().unwrap_or(Self::Other)
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer).map(|name| Self::of_name(&name))
    }
}
