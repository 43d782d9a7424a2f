use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! choices {
    ($(#[$outer:meta])* $name:ident { $($(#[$documentation:meta])* $choice:ident = $text:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$documentation])* $choice,)*
        }

        impl $name {
            /// Every choice.
            pub const ALL: &[Self] = &[$(Self::$choice),*];

            /// The choice as a setting spells it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$choice => $text,)* }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().find(|choice| choice.as_str() == text);
                found.copied().ok_or_else(|| {
                    let all: Vec<&str> = Self::ALL.iter().map(|choice| choice.as_str()).collect();
                    format!("write one of {}", all.join(", "))
                })
            }
        }
    };
}

choices! {
    /// To whom events go.
    RoutingStrategy {
        /// To the responsible person.
        #[default]
        User = "user",
        /// To the organization's one stream.
        Org = "org",
        /// To the responsible person where that person has a machine, else to the organization.
        Hybrid = "hybrid",
    }
}

choices! {
    /// Which of the machines that read a stream get an event.
    MultiEdgeMode {
        /// All of them, each with a cursor of its own.
        #[default]
        Broadcast = "broadcast",
        /// One, in turn.
        RoundRobin = "roundrobin",
        /// One, the same for everything about an issue or session.
        Sticky = "sticky",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_or_told_what_they_may_be() {
        for choice in RoutingStrategy::ALL {
            assert_eq!(choice.as_str().parse(), Ok(*choice));
        }
        for choice in MultiEdgeMode::ALL {
            assert_eq!(choice.as_str().parse(), Ok(*choice));
            assert_eq!(serde_json::to_value(choice).unwrap(), choice.as_str());
        }
        assert_eq!("".parse::<RoutingStrategy>(), Err("write one of user, org, hybrid".into()));
    }
}
