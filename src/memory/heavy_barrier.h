#pragma once

#include "base/mmap.h"

namespace doppel::memory {

/// The expensive half of an asymmetric memory barrier: after run(), every other thread of this process has passed a
/// full barrier at some point since run() began. The cheap half is a compiler barrier. Not thread-safe.
class HeavyBarrier {
 public:
  enum class Method {
    PrivateExpedited,  ///< membarrier(2): interrupts the processors that run this process, 2 µs or, virtual ones, tens
    Global,            ///< membarrier(2) of kernels before 4.14: milliseconds
    Protection,  ///< where a sandbox refuses membarrier: taking a page's write permission away interrupts them too
  };
  /// The fastest that this host permits.
  static Method best();

  /// Falls back to Protection where the host refuses `method`.
  explicit HeavyBarrier(Method method = best());
  void run();

 private:
  Method method_;
  Mapping page_;  ///< for Protection
};

}  // namespace doppel::memory
