use orchestrator::registry::Registry;

/// Everything this binary can store to. A backend is one dependency, one feature and one line.
pub fn registry() -> Registry {
    let registry = Registry::default(); // knows "memory" and "none"
    #[cfg(feature = "rocksdb")]
    let registry = registry.with("rocksdb", tracker_rocksdb::open);
    registry
}
