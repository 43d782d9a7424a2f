use serde::{Deserialize, Serialize};

/// Where Cloudflare believes that a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// Two letters; `T1` for Tor.
    pub continent: Option<String>,
    /// Two letters.
    pub country: Option<String>,
    /// Degrees, east is positive.
    pub longitude: Option<f32>,
}

/// East of this, North America is nearer to the eastern sites.
const NORTH_AMERICA_EAST_FROM: f32 = -100.0;
/// East of this, Europe is nearer to the eastern sites.
const EUROPE_EAST_FROM: f32 = 15.0;

const MIDDLE_EAST: [&str; 16] = [
    "AE", "BH", "CY", "EG", "IL", "IQ", "IR", "JO", "KW", "LB", "OM", "PS", "QA", "SA", "SY", "YE",
];

/// The platform's name for the region where an object is best made: it stays where it was made.
pub fn location_hint(whereabouts: &Whereabouts) -> Option<&'static str> {
    let country = whereabouts.country.as_deref().unwrap_or_default();
    if MIDDLE_EAST.contains(&country) {
        return Some("me");
    }
    let is_east = |from: f32| whereabouts.longitude.map(|longitude| longitude >= from);
    match whereabouts.continent.as_deref()? {
        "NA" => Some(if is_east(NORTH_AMERICA_EAST_FROM)? { "enam" } else { "wnam" }),
        "SA" => Some("sam"),
        "EU" => Some(if is_east(EUROPE_EAST_FROM)? { "eeur" } else { "weur" }),
        "AS" => Some("apac"),
        "OC" => Some("oc"),
        "AF" => Some("afr"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_near_one_region() {
        let check = |continent: &str, country: &str, longitude: Option<f32>, expected: &str| {
            let whereabouts = Whereabouts {
                continent: Some(continent.into()),
                country: Some(country.into()),
                longitude,
            };
            assert_eq!(location_hint(&whereabouts).unwrap_or("-"), expected, "{whereabouts:?}");
        };
        check("NA", "US", Some(-122.4), "wnam");
        check("NA", "US", Some(-74.0), "enam");
        check("SA", "BR", Some(-46.6), "sam");
        check("EU", "GB", Some(-0.1), "weur");
        check("EU", "DE", Some(13.4), "weur");
        check("EU", "PL", Some(21.0), "eeur");
        check("AS", "JP", Some(139.7), "apac");
        check("AS", "IL", Some(34.8), "me");
        check("AF", "EG", Some(31.2), "me");
        check("AF", "KE", Some(36.8), "afr");
        check("OC", "AU", Some(151.2), "oc");
        check("EU", "DE", None, "-");
        check("T1", "T1", None, "-");
        check("AN", "AQ", Some(0.0), "-");
        assert_eq!(location_hint(&Whereabouts::default()), None);
    }
}
