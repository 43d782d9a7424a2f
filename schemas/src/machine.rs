//! What Linear says of a machine's person.

use serde::{Deserialize, Serialize};

use crate::{error::ErrorCode, identifier::Channel};

/// A person as the installation's object has just heard of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedPerson {
    /// Neither suspended nor removed.
    pub active: bool,
    /// Their name.
    pub name: String,
    /// Whether they see only the teams that they were invited to. Who is not known to be a full
    /// member is treated as a guest.
    #[serde(default)]
    pub guest: Option<bool>,
    /// The teams that they belong to.
    #[serde(default)]
    pub teams: Vec<ConfirmedTeam>,
}

/// A team that a person belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedTeam {
    /// Its id.
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

impl ConfirmedPerson {
    /// Whether they may read a channel besides their own.
    pub fn may_read(&self, channel: &Channel) -> bool {
        match channel {
            Channel::Team(id) => self.teams.iter().any(|team| team.id == *id),
            Channel::Organization => self.guest == Some(false),
            Channel::User(_) | Channel::Unrouted => false,
        }
    }

    /// Those of the channels that they may read.
    pub fn allowed(&self, channels: &[Channel]) -> Vec<Channel> {
        channels.iter().filter(|channel| self.may_read(channel)).cloned().collect()
    }
}

/// What became of asking Linear for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonCheck {
    /// Linear knows them.
    Confirmed(ConfirmedPerson),
    /// Nobody could be asked; why.
    Unavailable(ErrorCode),
    /// The organization has no installation through which to ask.
    NotInstalled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_what_they_belong_to() {
        let person = |guest: Option<bool>| ConfirmedPerson {
            active: true,
            name: "Ada".into(),
            guest,
            teams: vec![ConfirmedTeam { id: "t".into(), name: "Team".into() }],
        };
        let check = |guest: Option<bool>, expected: &[&str]| {
            let asked = ["team:t", "team:other", "org", "user:u", "unrouted"];
            let asked: Vec<Channel> = asked.iter().map(|text| text.parse().unwrap()).collect();
            let allowed = person(guest).allowed(&asked);
            assert_eq!(allowed.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        };
        check(Some(false), &["team:t", "org"]);
        check(Some(true), &["team:t"]);
        check(None, &["team:t"]);
    }
}
