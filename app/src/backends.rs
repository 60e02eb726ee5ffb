use orchestrator::registry::Registry;

/// Everything this binary can store to. A backend is one dependency, one feature and one line.
pub fn registry() -> Registry {
    Registry::default() // knows "memory" and "none"
}
