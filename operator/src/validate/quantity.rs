//! Kubernetes' quantities: numbers with a unit.

/// The bytes of a volume's size; fractions are rounded down, and what is beyond every machine is the most there is, as
/// Kubernetes has it. None if it is not a size.
pub(super) fn bytes(text: &str) -> Option<u64> {
    if !crate::crd::patterns::SIZE.matches(text) {
        return None;
    }
    let whole = billionths(text).map_or(u128::MAX, |all| all / BILLION);
    Some(u64::try_from(whole).unwrap_or(u64::MAX))
}

const BILLION: u128 = 1_000_000_000;

/// The quantity in units of 10^-9, the finest that Kubernetes knows; finer parts are dropped. None if it is not a
/// quantity, or beyond every machine.
pub(super) fn billionths(text: &str) -> Option<u128> {
    if !crate::crd::patterns::QUANTITY.matches(text) {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}").parse::<u128>().ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    let (binary, decimal): (u32, i32) = match unit {
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        exponent => (0, exponent.get(1..)?.parse().ok()?),
    };
    let scaled = digits.checked_mul(1_u128.checked_shl(binary)?)?;
    let exponent = decimal.checked_add(9)?.checked_sub(places)?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs());
    if exponent >= 0 {
        scaled.checked_mul(power?)
    } else {
        // A power beyond 10^38 divides everything away.
        Some(power.map_or(0, |power| scaled / power))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in [
            ("1Gi", Some(1 << 30)),
            ("1.5Ki", Some(1536)),
            ("2k", Some(2000)),
            ("7", Some(7)),
            ("0.3", Some(0)),
            ("", None),
            ("1Xi", None),
            ("1.Gi", None),
            ("1m", None),
            ("99999999999P", Some(u64::MAX)),
            ("99999999999999999999999999999Pi", Some(u64::MAX)),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }

    #[test]
    fn one_amount_in_several_spellings() {
        for (a, b) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            (".5", "500000u"),
            ("2e3", "2k"),
            ("2E-3", "2m"),
            ("1Gi", "1073741824"),
            ("+3.", "3"),
            ("1n", "0.000000001"),
        ] {
            assert_eq!(billionths(a), billionths(b), "{a} and {b}");
            assert!(billionths(a).is_some(), "{a}");
        }
        assert_eq!(billionths("-1"), None);
        assert_eq!(billionths("1e-99"), Some(0));
        assert_eq!(billionths("1e99"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_quantity_panic(text in ".{0,24}", number in "[0-9.+eEKMGi-]{0,24}") {
            let _ = (billionths(&text), billionths(&number));
        }

        #[test]
        fn more_of_a_unit_is_more(a in 0_u64..1_000_000, b in 0_u64..1_000_000, unit in "(m|Ki|Gi|k|M)?") {
            let of = |n: u64| billionths(&format!("{n}{unit}"));
            proptest::prop_assert_eq!(of(a).cmp(&of(b)), a.cmp(&b));
        }
    }
}
