#pragma once

#include <cstdint>
#include <functional>

namespace doppel::storage {

/// Told now and then how far long work has come: `done` of `total` bytes or steps. Empty: nobody asks.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

}  // namespace doppel::storage
