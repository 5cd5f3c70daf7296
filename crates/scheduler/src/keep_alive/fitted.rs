//! What the days have in common: the coefficients of the chance, fitted to
//! days 0 to 6 of the trace of `docs/simulate.md` by `bench/keep_alive_fit.py`.

use super::SIGNALS;

/// Of each signal over the idle time of those days.
pub(super) const MEAN: [f64; SIGNALS] = [-5.8475, -5.8354, -5.8984, 4.5904, 5.4216, 0.792, 0.0694, -0.0151, 4.2299];
pub(super) const DEVIATION: [f64; SIGNALS] = [1.7835, 1.8278, 1.9087, 1.7763, 2.3721, 0.9118, 0.8017, 0.8443, 1.4274];
/// No signal counts for more than this many deviations: nothing was seen there.
pub(super) const DEVIATIONS_MAX: f64 = 3.0;

pub(super) const CONSTANT: f64 = -5.706;
#[expect(clippy::approx_constant, reason = "fitted, and near log10(e) and 2/π by chance")]
pub(super) const LINEAR: [f64; SIGNALS] = [-0.065, 0.4343, 0.6366, -0.5964, 0.0988, 0.1165, 0.0541, 0.0882, 0.3249];
/// Of the products of signal `i` with signals `i`, `i + 1` … in turn.
#[rustfmt::skip]
pub(super) const PRODUCTS: [f64; SIGNALS * (SIGNALS + 1) / 2] = [
    0.1177, -0.1008, -0.1351, -0.0227, 0.1863, -0.198, 0.1714, 0.007, -0.1582,
    -0.0027, 0.0028, -0.1149, -0.1831, 0.1766, 0.1277, -0.0199, -0.1834,
    -0.0962, -0.3099, -0.2075, 0.0591, -0.1021, -0.0951, 0.0585,
    -0.132, -0.1768, 0.0134, 0.2479, 0.0238, -0.1214,
    -0.0628, 0.0523, 0.0425, -0.0125, -0.0938,
    0.02, -0.0443, -0.0128, 0.0566,
    -0.0364, -0.0275, -0.007,
    -0.0455, -0.0101,
    0.1095,
];
