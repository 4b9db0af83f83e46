#pragma once

#include "base/mmap.h"

namespace doppel::memory {

/// The expensive half of an asymmetric memory barrier: after run(), every other thread of this process has passed a
/// full barrier at some point since run() began. The cheap half is a compiler barrier. Not thread-safe.
class HeavyBarrier {
 public:
  HeavyBarrier();
  void run();

 private:
  enum class Method {
    PrivateExpedited,  ///< membarrier(2): interrupts the processors that run this process, about 2 µs
    Global,            ///< membarrier(2) of kernels before 4.14: milliseconds
    Protection,  ///< where a sandbox refuses membarrier: taking a page's write permission away interrupts them too
  };
  static Method choose();

  Method method_;
  Mapping page_;  ///< for Protection
};

}  // namespace doppel::memory
