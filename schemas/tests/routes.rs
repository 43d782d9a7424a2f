//! Goal: a path leads to a route exactly when the route's pattern spells it.
//! Method: arbitrary paths, and listed ones with words in them and small damages, are found; what
//! is found, put back into the pattern, must be the path again.
#![allow(clippy::unwrap_used, reason = "a test that can't go on is to stop")]

use proptest::{prelude::*, sample::select};
use relay_schemas::{ErrorCode, Route};

/// A pattern with these words in the place of its braces.
fn spelled(pattern: &str, words: &[&str]) -> String {
    let mut words = words.iter();
    let mut path = String::new();
    for (place, segment) in pattern.split('/').enumerate() {
        if place > 0 {
            path.push('/');
        }
        let is_open = segment.starts_with('{') && segment.ends_with('}');
        path.push_str(if is_open { words.next().unwrap() } else { segment });
    }
    assert_eq!(words.next(), None, "{pattern} has fewer places");
    path
}

/// Whatever is found spells the path, with the method that was asked for.
fn check(method: &str, path: &str) {
    match Route::find(method, path) {
        Ok((route, words)) => {
            assert_eq!(spelled(route.path(), &words), path, "{route:?}");
            assert_eq!(route.method(), method, "{path}");
            assert!(words.iter().all(|word| !word.is_empty() && !word.contains('/')), "{path}");
        }
        Err(problem) if problem.code == ErrorCode::MethodNotAllowed => {
            let allowed = problem.details.iter().find(|(name, _)| *name == "allow").unwrap();
            assert!(!allowed.1.is_empty());
            for method in allowed.1.split(", ") {
                assert!(Route::find(method, path).is_ok(), "{method} {path}");
            }
        }
        Err(problem) => assert_eq!(problem.code, ErrorCode::NotFound, "{path}"),
    }
}

fn a_route() -> impl Strategy<Value = Route> {
    select(Route::ALL)
}

/// A path of a route, and one character of it changed, added or taken away.
fn a_damaged_path() -> impl Strategy<Value = String> {
    let word = "[A-Za-z0-9_:%.-]{1,12}";
    (a_route(), prop::collection::vec(word, 4), any::<prop::sample::Index>(), 0..4, any::<char>())
        .prop_map(|(route, words, place, damage, character)| {
            let places = route.path().matches('{').count();
            let words: Vec<&str> = words.iter().take(places).map(String::as_str).collect();
            let mut path: Vec<char> = spelled(route.path(), &words).chars().collect();
            let place = place.index(path.len());
            match damage {
                0 => path[place] = character,
                1 => path.insert(place, character),
                2 => path.insert(place, '/'),
                _ => drop(path.remove(place)),
            }
            path.into_iter().collect()
        })
}

proptest! {
    #[test]
    fn only_what_is_listed_is_found(
        method in select(vec!["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "get", ""]),
        arbitrary in any::<String>(),
        damaged in a_damaged_path(),
    ) {
        check(method, &arbitrary);
        check(method, &format!("/{arbitrary}"));
        check(method, &damaged);
    }

    #[test]
    fn what_is_listed_is_found(
        route in a_route(),
        words in prop::collection::vec("[a-z0-9:%.]{1,12}~", 4),
    ) {
        let places = route.path().matches('{').count();
        let words: Vec<&str> = words.iter().take(places).map(String::as_str).collect();
        let path = spelled(route.path(), &words);
        prop_assert_eq!(Route::find(route.method(), &path).unwrap(), (route, words));
    }

    #[test]
    fn letters_count_as_they_are_written(route in a_route(), place in any::<prop::sample::Index>()) {
        let path = spelled(route.path(), &["w", "w"][..route.path().matches('{').count()]);
        let letters: Vec<usize> = path
            .char_indices()
            .filter(|(place, letter)| letter.is_ascii_lowercase() && path[*place..].len() > 1)
            .map(|(place, _)| place)
            .collect();
        prop_assume!(!letters.is_empty());
        let place = letters[place.index(letters.len())];
        let mut other = path.clone();
        other[place..=place].make_ascii_uppercase();
        if let Ok((found, words)) = Route::find(route.method(), &other) {
            prop_assert_eq!(spelled(found.path(), &words), other);
        }
    }
}
