//! Chance that always falls the same way.

/// A number below `n`, which must not be 0: arbitrary, and always the same for the same question about the same `i`.
pub(crate) fn below(n: u32, question: &str, i: u32) -> u32 {
    // FNV-1a, so that every question has a stream of its own, then the finalizer of SplitMix64, so that neighbours get
    // numbers that have nothing to do with each other.
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let stream = question.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    let mut mixed = stream.wrapping_add(u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    // The remainder is below a u32, so nothing is cut off.
    u32::try_from(mixed % u64::from(n)).unwrap_or_default()
}

/// One of the choices, of which there must be some.
pub(crate) fn pick<'a, T>(choices: &'a [T], question: &str, i: u32) -> &'a T {
    let count = u32::try_from(choices.len()).unwrap_or(u32::MAX);
    &choices[below(count, question, i) as usize]
}

/// Lower-case letters and digits.
pub(crate) fn word(length: u32, question: &str, i: u32) -> String {
    let letters = b"abcdefghijkmnpqrstuvwxyz23456789";
    (0..length).map(|at| char::from(*pick(letters, question, i * 64 + at))).collect()
}
