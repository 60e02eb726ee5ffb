//! The suite on the memory tracker, and the suite's own test: that each broken tracker is caught by the law that names it.

use std::{collections::BTreeSet, sync::Arc};

use tracker_api::conformance::{
    Law, Memory,
    broken::{Broken, Flaw},
};

mod memory {
    tracker_api::conformance_suite!(super::Memory::default());
}

#[test]
fn each_broken_tracker_is_caught_by_the_law_that_names_its_fault() {
    let missed: Vec<String> = Flaw::ALL
        .iter()
        .filter(|flaw| {
            let law = Law::named(flaw.law()).expect("a flaw names a law that exists");
            law.prove(Arc::new(Broken::new(**flaw))).is_ok()
        })
        .map(|flaw| format!("{flaw:?} was not caught by {}", flaw.law()))
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// A law that no fault breaks proves nothing. (One can be broken by a fault that another law names.)
#[test]
fn every_law_is_broken_by_some_broken_tracker() {
    let breaks = |law: &Law, flaw: &Flaw| law.prove(Arc::new(Broken::new(*flaw))).is_err();
    let idle: Vec<&Law> = Law::all()
        .iter()
        .filter(|law| {
            let named = |flaw: &&Flaw| flaw.law() == law.name;
            let (first, rest): (Vec<_>, Vec<_>) = Flaw::ALL.iter().partition(named);
            !first.into_iter().chain(rest).any(|flaw| breaks(law, flaw))
        })
        .collect();
    assert!(idle.is_empty(), "no flaw breaks {idle:?}");
}

/// The random programs know no fault by name, yet find most.
#[test]
fn random_programs_alone_catch_most_broken_trackers() {
    let programs = Law::named("every_program_ends_as_in_the_model").expect("the law of the programs");
    let caught = |flaw: &&Flaw| programs.prove(Arc::new(Broken::new(**flaw))).is_err();
    let caught: Vec<&Flaw> = Flaw::ALL.iter().filter(caught).collect();
    println!("{} of {}", caught.len(), Flaw::ALL.len());
    assert!(caught.len() * 2 > Flaw::ALL.len(), "only {caught:?}");
}

#[test]
fn laws_have_names_of_their_own() {
    let names: BTreeSet<&str> = Law::all().iter().map(|law| law.name).collect();
    assert_eq!(names.len(), Law::all().len());
}
