//! What notes call the store, so that nobody takes what was told to another store for what was told to this one.

use std::path::Path;

use crate::{
    config::Settings,
    operate::{self, DataDir},
    registry::Registry,
};

/// For the service that holds `data_dir`.
pub(super) fn of_service(
    registry: &Registry,
    settings: &Settings,
    data_dir: &DataDir,
) -> operate::Result<u32> {
    match settings.store.backend.name.as_str() {
        "memory" => Ok(uuid::Uuid::new_v4().as_fields().0 | 1), // forgotten with the process
        name if registry.is_embedded(name) => data_dir.mark(),
        _ => Ok(of_shared(settings)),
    }
}

/// For a command, while no service holds the store. 0, which no store is called, if no service ever held it.
pub(super) fn of_command(registry: &Registry, settings: &Settings, data_dir: &Path) -> u32 {
    if registry.is_embedded(&settings.store.backend.name) {
        DataDir::marked(data_dir).unwrap_or(0)
    } else {
        of_shared(settings)
    }
}

/// The same for every process that is configured so: FNV-1a over backend and namespace.
fn of_shared(settings: &Settings) -> u32 {
    let bytes = settings
        .store
        .backend
        .name
        .bytes()
        .chain([0])
        .chain(settings.namespace.bytes());
    bytes.fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    }) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedded_store_keeps_its_mark_and_no_other_has_it() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mark = |place: &Path| DataDir::hold(place, Some("a")).unwrap().mark().unwrap();
        let first = mark(one.path());
        assert_eq!(mark(one.path()), first);
        assert_eq!(DataDir::marked(one.path()), Some(first));
        assert_ne!(mark(two.path()), first);
    }

    #[test]
    fn a_shared_store_has_one_mark_for_all() {
        let settings = |group: &str| Settings::new("b", group, "s", "t", "elsewhere");
        let (registry, nowhere) = (Registry::default(), Path::new("/nowhere"));
        let mark = |group: &str| of_command(&registry, &settings(group), nowhere);
        assert_eq!(mark("orders"), mark("orders"));
        assert_ne!(mark("orders"), mark("others"));
    }
}
