//! The lifecycle rules of an environment's bucket, from its retention in `wrangler.toml`.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use toml::Table;

use crate::process;
use crate::workspace::Workspace;

const DAY_S: f64 = 86_400.0;

/// The relay removes segments by itself when their time has come; the bucket does so this much
/// later, for those that nothing knows any more.
const MARGIN_DAYS: f64 = 2.0;

/// Sets the rules, or prints them.
pub(crate) fn run(workspace: &Workspace, environment: &str, is_dry_run: bool) -> Result<()> {
    let text = std::fs::read_to_string(workspace.path("wrangler.toml"))
        .context("wrangler.toml can't be read")?;
    let (bucket, rules) = rules_of(&text, environment)?;
    let body = serde_json::to_string_pretty(&json!({ "rules": rules }))?;
    if is_dry_run {
        println!("{bucket}\n{body}");
        return Ok(());
    }
    let directory = workspace.path("target");
    std::fs::create_dir_all(&directory)?;
    let file = directory.join(format!("lifecycle-{environment}.json"));
    std::fs::write(&file, body).with_context(|| format!("{} can't be written", file.display()))?;
    let mut wrangler = Command::new(workspace.npm_program("wrangler"));
    wrangler
        .args(["r2", "bucket", "lifecycle", "set", &bucket, "--force", "--file"])
        .arg(&file)
        .current_dir(workspace.root())
        .env("PATH", workspace.path_variable()?);
    process::run(&mut wrangler)
}

/// The bucket of an environment and its rules.
fn rules_of(text: &str, environment: &str) -> Result<(String, Vec<Value>)> {
    let config: Table = text.parse().context("wrangler.toml")?;
    let environments = config.get("env").and_then(toml::Value::as_table);
    let Some(own) = environments.and_then(|all| all.get(environment)?.as_table()) else {
        bail!("wrangler.toml has no environment {environment}");
    };
    let bucket = own
        .get("r2_buckets")
        .and_then(|buckets| buckets.as_array()?.first()?.get("bucket_name")?.as_str())
        .with_context(|| format!("the environment {environment} has no bucket"))?;
    let variable = |name: &str| own.get("vars").and_then(|vars| vars.get(name)?.as_str());
    let days: f64 = variable("RETENTION_DAYS").unwrap_or("62").parse().context("RETENTION_DAYS")?;
    ensure!(days > 0.0, "RETENTION_DAYS is not above 0");
    let mut rules = vec![
        rule("segments", "segments/", days + MARGIN_DAYS),
        // A body is written before its letter, by up to the hours that its message was tried.
        rule("bodies", "bodies/", days + MARGIN_DAYS),
        rule("dead-letters", "dead-letters/", days),
    ];
    for pair in variable("RETENTION_DAYS_BY_ORGANIZATION").unwrap_or_default().split(',') {
        let Some((organization, days)) = pair.trim().split_once('=') else { continue };
        let days: f64 = days.trim().parse().context("RETENTION_DAYS_BY_ORGANIZATION")?;
        let (organization, days) = (organization.trim(), days + MARGIN_DAYS);
        rules.push(rule(
            &format!("segments-{organization}"),
            &format!("segments/{organization}/"),
            days,
        ));
    }
    Ok((bucket.to_owned(), rules))
}

/// R2 counts ages in seconds, and acts once a day.
fn rule(id: &str, prefix: &str, days: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some years")]
    let age_s = (days * DAY_S).ceil() as u64;
    json!({
        "id": id,
        "enabled": true,
        "conditions": { "prefix": prefix },
        "deleteObjectsTransition": { "condition": { "type": "Age", "maxAge": age_s } },
    })
}

#[cfg(test)]
mod tests {
    use super::rules_of;

    const CONFIG: &str = r#"
        [[env.production.r2_buckets]]
        binding = "BUCKET"
        bucket_name = "edgerelay-production"
        [env.production.vars]
        RETENTION_DAYS = "30"
        RETENTION_DAYS_BY_ORGANIZATION = "org-1=7, org-2=0.5"
        [env.bare.vars]
    "#;

    #[test]
    fn each_prefix_has_a_rule_of_its_own_age() {
        let (bucket, rules) = rules_of(CONFIG, "production").unwrap();
        assert_eq!(bucket, "edgerelay-production");
        let ages: Vec<(&str, u64)> = rules
            .iter()
            .map(|rule| {
                let age = &rule["deleteObjectsTransition"]["condition"]["maxAge"];
                (rule["conditions"]["prefix"].as_str().unwrap(), age.as_u64().unwrap())
            })
            .collect();
        let expected = [
            ("segments/", 32 * 86_400),
            ("bodies/", 32 * 86_400),
            ("dead-letters/", 30 * 86_400),
            ("segments/org-1/", 9 * 86_400),
            ("segments/org-2/", 216_000),
        ];
        assert_eq!(ages, expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (environment, missing) in [("staging", "environment staging"), ("bare", "no bucket")] {
            let error = rules_of(CONFIG, environment).unwrap_err().to_string();
            assert!(error.contains(missing), "{error}");
        }
    }

    #[test]
    fn the_environments_of_this_repository_have_rules() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../wrangler.toml"));
        for environment in ["develop", "production"] {
            let (bucket, rules) = rules_of(text.as_ref().unwrap(), environment).unwrap();
            assert_eq!(bucket, format!("edgerelay-{environment}"));
            assert_eq!(rules.len(), 3);
        }
    }
}
