//! A generator whose numbers are the same on every machine and in every version (splitmix64).

const SEED: u64 = 0xC360;

pub(super) struct Random(u64);

impl Random {
    /// The stream of numbers for one person and one purpose, independent of all others.
    pub(super) fn new(purpose: u64, index: u32) -> Self {
        let mut random = Self(SEED ^ (purpose << 48) ^ (u64::from(index) << 16));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `limit` - 1.
    pub(super) fn below(&mut self, limit: u32) -> u32 {
        // The remainder is below a u32, so nothing is cut off.
        u32::try_from(self.next() % u64::from(limit)).unwrap_or_default()
    }

    pub(super) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let choice = self.next() % choices.len() as u64;
        &choices[usize::try_from(choice).unwrap_or_default()]
    }

    /// The pattern with a digit for each `#`.
    pub(super) fn digits(&mut self, pattern: &str) -> String {
        let digit = |letter| if letter == '#' { char::from(b'0' + self.digit()) } else { letter };
        pattern.chars().map(digit).collect()
    }

    /// Letters and digits.
    pub(super) fn word(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(*self.pick(b"abcdefghijkmnpqrstuvwxyz23456789"))).collect()
    }

    fn digit(&mut self) -> u8 {
        u8::try_from(self.below(10)).unwrap_or_default()
    }
}
