#include "memory/heavy_barrier.h"

#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "base/log.h"

namespace doppel::memory {
namespace {

long membarrier(int command) {
  return ::syscall(SYS_membarrier, command, 0, 0);
}

/// Without a barrier, code that a guest has overwritten might go on running: nothing sensible can follow.
[[noreturn]] void give_up() {
  log::error("memory", "no memory barrier is available: the host permits neither membarrier nor mprotect");
  std::abort();
}

}  // namespace

HeavyBarrier::Method HeavyBarrier::best() {
  const long supported = membarrier(MEMBARRIER_CMD_QUERY);
  if (supported < 0) return Method::Protection;
  if ((supported & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0 &&
      membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0) {
    return Method::PrivateExpedited;
  }
  return (supported & MEMBARRIER_CMD_GLOBAL) != 0 ? Method::Global : Method::Protection;
}

HeavyBarrier::HeavyBarrier(Method method) : method_(method) {
  Result<Mapping> page = Mapping::anonymous(1);
  if (!page) give_up();
  page_ = *std::move(page);
}

void HeavyBarrier::run() {
  // Each of these is a full barrier for the calling thread too.
  if (method_ == Method::PrivateExpedited && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) return;
  if (method_ == Method::Global && membarrier(MEMBARRIER_CMD_GLOBAL) == 0) return;
  method_ = Method::Protection;

  // Writing makes the page present, so that there is a translation to take back from the other processors.
  if (::mprotect(page_.data(), page_.size(), PROT_READ | PROT_WRITE) != 0) give_up();
  *reinterpret_cast<volatile char*>(page_.data()) = 1;
  if (::mprotect(page_.data(), page_.size(), PROT_READ) != 0) give_up();
}

}  // namespace doppel::memory
