//! The names of everything that belongs to a cluster. A role never follows from a name.

/// The n-th instance, counted from 1: `orders-1`.
pub fn instance(cluster: &str, number: u32) -> String {
    format!("{cluster}-{number}")
}

/// The number of an instance of this cluster, `None` for any other name.
pub fn instance_number(cluster: &str, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(cluster)?.strip_prefix('-')?;
    let plain = !digits.is_empty() && !digits.starts_with('0');
    if plain && digits.bytes().all(|b| b.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_from_the_clusters_own_names_only() {
        assert_eq!(instance_number("orders", &instance("orders", 12)), Some(12));
        for other in [
            "orders",
            "orders-",
            "orders-0",
            "orders-01",
            "orders-x",
            "sales-1",
            "orders-1-0",
        ] {
            assert_eq!(instance_number("orders", other), None, "{other}");
        }
    }
}
