//! Chance that always falls the same way.

/// A number below `n`, which must not be 0: arbitrary, and always the same for the same question about the same `i`.
pub fn below(n: usize, question: &str, i: usize) -> usize {
    let seed = question.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The finalizer of SplitMix64: neighbours get numbers that have nothing to do with each other.
    let mut mixed = seed.wrapping_add((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    usize::try_from(mixed % n as u64).unwrap_or_default()
}

/// `length` characters of the alphabet.
pub fn word(alphabet: &[u8], length: usize, question: &str, i: usize) -> String {
    (0..length).map(|at| char::from(alphabet[below(alphabet.len(), question, i * 64 + at)])).collect()
}
