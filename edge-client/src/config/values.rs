use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use relay_schemas::{Channel, KindFilter};
use reqwest::Url;

/// How one setting's text is read. Faults are sentences that follow the quoted value.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let text = text.trim().trim_end_matches('/');
    let text = match text.split_once("://") {
        Some(("ws", rest)) => format!("http://{rest}"),
        Some(("wss", rest)) => format!("https://{rest}"),
        _ => text.to_owned(),
    };
    let url = Url::parse(&text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("is not an http or https URL".into());
    }
    Ok(url)
}

pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let url = url(text)?;
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err("has more than scheme, host, port and path".into());
    }
    Ok(url)
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|_| "is not a duration".into())
}

pub(super) fn number<T: FromStr + PartialOrd + std::fmt::Display>(
    least: T,
    greatest: T,
) -> impl FnOnce(&str) -> Result<T, String> {
    move |text| match text.parse::<T>() {
        Ok(number) if number >= least && number <= greatest => Ok(number),
        _ => Err(format!("is not a number from {least} to {greatest}")),
    }
}

pub(super) fn choice<T: Copy>(
    choices: &'static [(&'static str, T)],
) -> impl FnOnce(&str) -> Result<T, String> {
    move |text| {
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("is not one of {}", names.join(", "))
        })
    }
}

pub(super) const SWITCH: &[(&str, bool)] =
    &[("true", true), ("false", false), ("on", true), ("off", false), ("1", true), ("0", false)];

pub(super) fn kinds(text: &str) -> Result<Vec<String>, String> {
    KindFilter::default()
        .add(text)
        .map_err(|problem| format!("is not a filter: {}", problem.message))?;
    Ok(text.split(',').map(|kind| kind.trim().to_owned()).collect())
}

pub(super) fn channel(text: &str) -> Result<Channel, String> {
    text.trim().parse().map_err(|_| "is not a channel: user:ID, team:ID or org".into())
}

/// `None` means off.
pub(super) fn local_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let address: SocketAddr =
        text.parse().map_err(|_| "is neither an address with a port nor off".to_owned())?;
    if !address.ip().is_loopback() {
        return Err("can be reached from other machines: only loopback is served".into());
    }
    Ok(Some(address))
}

pub(super) fn text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("is empty".into()) } else { Ok(text.to_owned()) }
}

pub(super) fn header_text(text: &str) -> Result<String, String> {
    match reqwest::header::HeaderValue::from_str(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("is not a name: letters, digits and signs of ASCII only".into()),
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty".into()) } else { Ok(PathBuf::from(text)) }
}
