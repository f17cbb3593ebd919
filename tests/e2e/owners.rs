//! Sockets that change hands, as between the processes of Postfix.

use std::{path::Path, time::Duration};

use tests::{
    handover::hand_over,
    lab::Lab,
    needs,
    server::Server,
    session::{COMM, Session},
    tracer::Tracer,
};

#[test]
fn the_new_holder_is_an_owner_and_the_old_one_stays_first() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let program = Path::new(env!("CARGO_BIN_EXE_lab-session"));
    let holder = hand_over(session, &lab.client, program).unwrap();
    lab.wait_for_ends(Duration::from_secs(5)).unwrap();
    let run = tracer.stop_cleanly().unwrap();

    let record = run.recording.single().unwrap();
    let own = u64::from(std::process::id());
    assert_eq!(record.known("pid").unwrap(), own, "{}", record.json());
    assert_eq!(record.text("comm").unwrap(), Some(COMM), "{}", record.json());
    // The message that the second process sent belongs to the same connection.
    assert_eq!(record.known("turns").unwrap(), 6, "{}", record.json());
    assert_eq!(record.known("transactions").unwrap(), 1, "{}", record.json());
    let owners = record.field("owners").unwrap().as_array().unwrap();
    let pids: Vec<_> = owners.iter().map(|owner| owner["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids, [own, u64::from(holder)], "{}", record.json());
    assert_eq!(owners[1]["comm"], "lab-session", "{}", record.json());
    let first_us = owners[1]["first_us"].as_u64().unwrap();
    let lifetime = record.known("lifetime_us").unwrap();
    assert!((200_000..lifetime).contains(&first_us), "{}", record.json());
}
