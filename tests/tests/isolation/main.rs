//! Goal: nobody gets a byte that tells of another organization, or of another person, except in a
//! channel that both may read; and everybody gets all that is theirs.
//! Method: organizations, people, machines and events by a seed, on workerd. Ids, names and a word
//! in each body say whose it is. All that any machine can get is kept and searched for the words
//! of others: live and past events in every dialect, pages, segments, single events, reports, and
//! the answers to requests for what is somebody else's. Ids are alike, or the same, on purpose.

#![allow(clippy::unwrap_used)]

mod collect;
mod hostile;
mod world;

use std::{collections::BTreeSet, env, time::Instant};

use fastrand::Rng;
use futures::{StreamExt, future::join_all, stream};
use relay_schemas::{Dialect, ErrorCode};
use relay_tests::{Answer, until};
use reqwest::Method;

use crate::{
    collect::{Collected, Way},
    world::World,
};

/// How many send or ask at once.
const SIDE_BY_SIDE: usize = 8;
const SINGLE_EVENTS: usize = 8;

#[tokio::test]
async fn nobody_learns_anything_of_anybody_else() {
    let given = env::var("EDGERELAY_ISOLATION_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("again with EDGERELAY_ISOLATION_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let started = Instant::now();
    let mut world = World::new(&mut rng).await;
    let collected = Collected::default();
    let (events, readers) = (world.all().count(), world.readers.len());
    println!("{events} events, {readers} machines after {:?}", started.elapsed());

    futures::join!(deliver(&world), read_streams(&world, &collected, ""));
    println!("delivered after {:?}", started.elapsed());
    wait_until_sealed(&world).await;
    world.know_epochs().await;

    let attacks = (0..world.readers.len()).map(|who| (who, rng.fork()));
    stream::iter(attacks)
        .for_each_concurrent(SIDE_BY_SIDE, |(who, rng)| {
            hostile::attack(&world, &collected, who, rng)
        })
        .await;
    println!("attacked after {:?}", started.elapsed());

    let limit = rng.usize(10..60);
    futures::join!(
        read_streams(&world, &collected, "&body=base64"),
        read_history(&world, &collected, limit)
    );
    ask_as_operator(&world, &collected).await;
    println!("read after {:?}", started.elapsed());
    revoke(&world, &mut rng).await;
    collected.check(&world);
    println!("done after {:?}", started.elapsed());
}

/// Each channel of each machine that may read.
fn ways<'a>(world: &'a World, collected: &'a Collected) -> Vec<Way<'a>> {
    let readers = world.readers.iter().enumerate().filter(|(_, reader)| reader.may_read());
    readers
        .flat_map(|(who, reader)| {
            let channels = reader.channels.iter();
            channels.map(move |channel| Way { world, collected, who, channel })
        })
        .collect()
}

async fn deliver(world: &World) {
    stream::iter(&world.webhooks)
        .for_each_concurrent(SIDE_BY_SIDE, async |sent| {
            let delivery = sent.id.trim_start_matches("evt_").to_owned();
            world.relay.deliver(&sent.body, &delivery).await;
        })
        .await;
}

/// Everybody follows each channel in every dialect at once.
async fn read_streams(world: &World, collected: &Collected, query: &str) {
    let ways = ways(world, collected);
    let streams = ways
        .iter()
        .flat_map(|way| Dialect::ALL.iter().map(move |dialect| way.read_stream(*dialect, query)));
    join_all(streams).await;
}

async fn wait_until_sealed(world: &World) {
    let streams: BTreeSet<&str> = world.webhooks.iter().map(|sent| &*sent.stream).collect();
    for stream in streams.into_iter().filter(|stream| !stream.ends_with("unrouted")) {
        until("history in R2", async || {
            let state = world.relay.stream_state(stream).await;
            (state["segments"].as_u64()? > 0 && state["hot_bytes"].as_u64()? < 8_000).then_some(())
        })
        .await;
    }
}

async fn read_history(world: &World, collected: &Collected, limit: usize) {
    stream::iter(ways(world, collected))
        .for_each_concurrent(SIDE_BY_SIDE, async |way| {
            way.read_pages("asc", limit).await;
            way.read_pages("desc", limit).await;
            way.read_segments().await;
            way.read_events(SINGLE_EVENTS).await;
        })
        .await;
}

/// An operator who asks for one organization is told of that one.
async fn ask_as_operator(world: &World, collected: &Collected) {
    for organization in &world.organizations {
        let who = world.operator_of(organization);
        let mut streams = BTreeSet::new();
        let theirs = |stream: &&str| stream.split('/').next() == Some(organization);
        let expected: BTreeSet<&str> =
            world.webhooks.iter().map(|sent| &*sent.stream).filter(theirs).collect();
        let path = format!("/state?organization={organization}");
        let request = world.relay.as_operator(Method::GET, &path);
        let state = collected.answer(who, &path, "", request).await.ok();
        for stream in state["streams"].as_array().unwrap() {
            streams.insert(stream["stream"].as_str().unwrap());
        }
        assert_eq!(streams, expected);
        let path = format!("/admin/edges?organization={organization}");
        let request = world.relay.as_operator(Method::GET, &path);
        let edges = collected.answer(who, &path, "", request).await.ok();
        let theirs = |reader: &&world::Reader| reader.edge.organization == *organization;
        let count = world.readers.iter().filter(theirs).count();
        assert_eq!(edges["edges"].as_array().unwrap().len(), count);
        for stream in expected {
            let path = format!("/state/{stream}");
            let request = world.relay.as_operator(Method::GET, &path);
            collected.answer(who, &path, "", request).await.ok();
        }
    }
}

/// A machine that is revoked is barred from all of its channels, and nobody else from any.
async fn revoke(world: &World, rng: &mut Rng) {
    // One with further channels.
    let many = |who: &usize| world.readers[*who].channels.len() > 1;
    let with_many: Vec<usize> = (0..world.readers.len()).filter(many).collect();
    let revoked = with_many[rng.usize(..with_many.len())];
    world.relay.revoke(&world.readers[revoked].edge).await;
    for (who, reader) in world.readers.iter().enumerate().filter(|(_, reader)| reader.may_read()) {
        for channel in &reader.channels {
            let path = format!("/events?limit=1&channel={channel}");
            let answer = Answer::to(world.relay.as_edge(&reader.edge, Method::GET, &path)).await;
            let case = format!("{channel} of {}", reader.name);
            if who == revoked {
                answer.refused(&case, ErrorCode::CredentialRevoked);
            } else {
                assert_eq!(answer.status, 200, "{case}: {}", answer.text());
            }
        }
    }
}
