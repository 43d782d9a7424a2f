use serde::{Deserialize, Serialize};

macro_rules! scopes {
    ($($(#[$documentation:meta])* $scope:ident = $text:literal, $kinds:literal;)*) => {
        /// What a credential allows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Scope {
            $($(#[$documentation])* #[serde(rename = $text)] $scope,)*
            /// A scope of a newer relay; it allows nothing here.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl Scope {
            /// Every scope there is.
            pub const ALL: &[Self] = &[$(Self::$scope),*];

            /// The scope's text.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$scope => $text,)*
                    Self::Unknown => "unknown",
                }
            }

            /// The kinds of events that it lets be read, as in a `kind` parameter: `*` for all,
            /// empty for none.
            pub fn kinds(self) -> &'static str {
                match self {
                    $(Self::$scope => $kinds,)*
                    Self::Unknown => "",
                }
            }
        }
    };
}

scopes! {
    /// Read all events.
    ReadEvents = "read:events", "*";
    /// Read the events of agent sessions.
    ReadSessions = "read:sessions", "AgentSessionEvent,AgentSession,AgentActivity";
    /// Read what happens to issues.
    ReadIssues = "read:issues", "Issue,Comment,Reaction,Attachment,IssueLabel,IssueSLA";
    /// Read the app's notifications.
    ReadNotifications = "read:notifications", "AppUserNotification";
    /// Read what happens to projects and the like.
    ReadProjects = "read:projects",
        "Project,ProjectUpdate,ProjectLabel,Initiative,InitiativeUpdate,InitiativeLabel,\
         Document,Cycle,Customer,CustomerNeed,Release,ReleaseNote";
    /// Report what became of events.
    WriteStatus = "write:status", "";
    /// Write in agent sessions: thoughts, actions, plans, links.
    WriteActivity = "write:activity", "";
}

impl Scope {
    /// What a new credential gets unless less is asked for.
    pub const DEFAULT: [Self; 3] = [Self::ReadEvents, Self::WriteStatus, Self::WriteActivity];

    /// The scopes of which one is needed to read anything.
    pub const READING: &[Self] = &[
        Self::ReadEvents,
        Self::ReadSessions,
        Self::ReadIssues,
        Self::ReadNotifications,
        Self::ReadProjects,
    ];
}
