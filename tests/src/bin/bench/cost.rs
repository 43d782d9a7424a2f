//! What a million events cost, from operations that were counted: on workerd, where a shape takes
//! seconds, and natively, with the same logic under a clock of its own, where it takes days.

mod bill;
mod local;
mod model;
mod session;
mod shape;

use relay_schemas::limits::{SEAL_AGE_DEFAULT_S, SEAL_AGE_SHARE, SEAL_BYTES_DEFAULT};
use relay_tests::{Relay, RelayOptions};

pub(crate) use self::bill::WORKER_CPU_MS;
use self::{bill::Bill, local::Observed, model::Model, shape::Shape};

/// Shrunk, so that a short run on workerd seals several times.
const SEAL_BYTES_LOCAL: u64 = 150_000;

/// Share by which the rows that workerd counts and those of the model may differ, and rows for one
/// event that don't matter: on workerd webhooks overtake one another, and appends come while a
/// segment is on its way to R2.
const ROWS_TOLERANCE: (f64, f64) = (0.05, 0.01);

/// Prints the table.
pub(crate) async fn run() {
    println!("\n## Cost of a million events, at Cloudflare's list prices");
    println!("on workerd, sealed at {SEAL_BYTES_LOCAL} bytes, and the same appends in the model:");
    let mut relay = Relay::start_with(RelayOptions::sealed_at(SEAL_BYTES_LOCAL)).await;
    let single = local::singles(&mut relay).await;
    let bursts = local::bursts(&mut relay).await;
    let flood = local::flood(&mut relay).await;
    for (name, observed) in [("one by one", &single), ("bursts of 20", &bursts), ("500/s", &flood)]
    {
        compare(name, observed);
    }
    drop(relay);
    let shapes = [Shape::hourly(&single), Shape::of_bursts(&bursts), Shape::of_flood(&flood)];
    let bills: Vec<Bill> = shapes.iter().map(Shape::bill).collect();
    bill::print_table(&bills);
    print_notes(&shapes, &bursts);
    session::print();
}

/// Rows on workerd against rows of the model, for the same appends in the same order.
fn compare(name: &str, observed: &Observed) {
    let each = |rows: u64| rows as f64 / observed.events as f64;
    let (log, directory) = observed.modelled_rows();
    let rows = [(observed.rows, log), (observed.directory_rows, directory)];
    let [log, directory] = rows.map(|(counted, modelled)| (each(counted), each(modelled)));
    println!(
        "{name:<15} {} events in {} appends and {} segments: rows each {:.3} in the stream, {:.3} in \
         the directory; in the model {:.3} and {:.3}; {:.0} µs of workerd's processor time each",
        observed.events,
        observed.appends().count(),
        observed.segments(),
        log.0,
        directory.0,
        log.1,
        directory.1,
        observed.processor_us_per_event()
    );
    for (counted, modelled) in [log, directory] {
        let tolerated = (ROWS_TOLERANCE.0 * modelled).max(ROWS_TOLERANCE.1);
        assert!((counted - modelled).abs() <= tolerated, "the model is wrong about {name}");
    }
}

fn print_notes(shapes: &[Shape], bursts: &Observed) {
    let worst = Shape::of_bursts(&bursts.one_by_one()).bill().total();
    println!("bursts whose every event is a batch of its own would cost ${worst:.2}");
    println!(
        "a segment gathers {SEAL_BYTES_DEFAULT} bytes, or in {} h at least {}; {}",
        SEAL_AGE_DEFAULT_S / 3_600,
        SEAL_BYTES_DEFAULT / SEAL_AGE_SHARE,
        bill::ASSUMPTIONS
    );
    for shape in shapes {
        let mut model: Model = shape.with_history();
        let caught_up = model.catch_up();
        println!(
            "{:<15} a reader that comes back and reads all {} events: {caught_up}, ${:.2} a million times",
            shape.name,
            model.kept(),
            caught_up.price()
        );
    }
}
