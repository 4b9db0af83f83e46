#pragma once

#include <cstdint>

namespace doppel::time {

/// The host's time stamp counter, read after all earlier loads.
std::uint64_t host_tsc();

/// Whether the host's kernel derives CLOCK_MONOTONIC from that counter: then it has one rate, and one value on all
/// processors. Reads a file of /sys; no where that is not to be had.
bool host_tsc_is_clock();

}  // namespace doppel::time
