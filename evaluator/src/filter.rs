//! A filter that says which hashes were certainly never added: no false "never", and about one false
//! "perhaps" in a hundred, however many are added.
//!
//! Scalable Bloom filter (Almeida, Baquero, Preguiça, Hutchison 2007): layers of growing capacity
//! and tightening error. Each layer is a split-block filter (Putze, Sanders, Singler 2007; the
//! layout is Parquet's: eight words of 32 bits, one bit in each), so a question costs one cache line
//! a layer.

/// Hashes the first layer has room for.
const FIRST_CAPACITY: usize = 1 << 14;
/// How much more room each layer has than the one before.
const GROWTH: usize = 4;
/// Bits a hash takes in the first layer. A split-block layer errs 0.4 % of the time at 13 bits.
const FIRST_BITS: usize = 13;
/// Bits more in each further layer: two bits about halve the error, so that all layers together stay
/// under 1 %.
const MORE_BITS: usize = 2;
/// Multipliers that pick one bit in each of a block's words; odd, as in Parquet's specification.
const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// The layers, oldest and smallest first.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    layers: Vec<Layer>,
}

impl Filter {
    /// Remembers a hash, which must be well mixed.
    pub(crate) fn add(&mut self, hash: u64) {
        if self.layers.last().is_none_or(|layer| layer.added == layer.capacity) {
            self.layers.push(Layer::new(self.layers.len() as u32));
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.add(hash);
        }
    }

    /// False: the hash was never added. True: it may have been.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.layers.iter().rev().any(|layer| layer.may_contain(hash))
    }

    /// Bytes it takes, and would take with one more layer where the last is full.
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.blocks.len() * size_of::<Block>()).sum()
    }
}

type Block = [u32; 8];

#[derive(Debug)]
struct Layer {
    blocks: Vec<Block>,
    added: usize,
    capacity: usize,
}

impl Layer {
    fn new(index: u32) -> Self {
        let capacity = FIRST_CAPACITY * GROWTH.pow(index);
        let bits = FIRST_BITS + MORE_BITS * index as usize;
        let blocks = (capacity * bits).div_ceil(Block::BITS);
        Self { blocks: vec![[0; 8]; blocks], added: 0, capacity }
    }

    fn add(&mut self, hash: u64) {
        self.added += 1;
        let at = self.block(hash);
        for (word, bit) in self.blocks[at].iter_mut().zip(bits(hash)) {
            *word |= bit;
        }
    }

    fn may_contain(&self, hash: u64) -> bool {
        self.blocks[self.block(hash)].iter().zip(bits(hash)).all(|(word, bit)| word & bit != 0)
    }

    /// The high half picks the block without a division (Lemire 2016).
    fn block(&self, hash: u64) -> usize {
        (((hash >> 32) * self.blocks.len() as u64) >> 32) as usize
    }
}

trait Bits {
    const BITS: usize;
}

impl Bits for Block {
    const BITS: usize = 256;
}

/// The low half picks one bit of each word.
fn bits(hash: u64) -> impl Iterator<Item = u32> {
    SALTS.into_iter().map(move |salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(n: u64) -> u64 {
        let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[test]
    fn never_forgets_and_seldom_errs() {
        for count in [1_u64, 1_000, 16_384, 80_000, 400_000, 1_500_000] {
            let mut filter = Filter::default();
            (0..count).for_each(|n| filter.add(mix(n)));
            assert!((0..count).all(|n| filter.may_contain(mix(n))), "{count} forgotten");
            let asked = 200_000;
            let wrong = (0..asked).filter(|n| filter.may_contain(mix(1 << 40 | n))).count();
            assert!(wrong * 100 <= asked as usize, "{wrong} of {asked} wrong at {count}");
        }
    }
}
