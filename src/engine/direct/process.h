#pragma once

#include <sys/types.h>
#include <ucontext.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "base/mmap.h"
#include "base/result.h"
#include "engine/dbt/code_cache.h"
#include "engine/direct/shared_state.h"
#include "engine/direct/stub.h"
#include "memory/guest_memory.h"
#include "x86/attention.h"

namespace doppel::engine::direct {

/// A process without anything but pages of the guest's memory and the code made for it: its address space is that of a
/// guest's program, so its code needs no look-ups. It may make no system call but those that map guest memory, wait and
/// hand over (seccomp), and holds no descriptor but of that memory. What it says is not believed. Ends with this
/// object, or with the thread that made it.
///
/// The vCPU's thread, but for kick().
class Process : public x86::Attention::Kicker {
 public:
  /// Before the jail is sealed. `memory_fd` is GuestMemory::shared_fd(). An error where the host does not allow it.
  static Result<std::unique_ptr<Process>> create(int memory_fd, std::size_t code_bytes);
  ~Process() override;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  Shared& shared() { return *shared_; }
  dbt::CodeCache& cache() { return *cache_; }
  const Stub& stub() const { return stub_; }
  dbt::JumpTable::Entries& jumps() { return reinterpret_cast<Jumps*>(jumps_.data())->entries; }
  /// Whether these addresses are the process's own, so that no guest memory can be there.
  bool reserves(std::uint64_t address) const { return address - base_ < size_; }

  // Changes of its address space, made when it runs next, in this order.
  void map(std::uint64_t address, std::uint64_t length, std::uint64_t memory_offset, bool writable);
  void unmap(std::uint64_t address, std::uint64_t length);
  /// Everything of the guest's.
  void unmap_all();

  /// Moves to this processor of the host's.
  void move_to(int cpu);

  /// Goes on at `entry` with the state in shared(), until the process hands back. An error when the process
  /// is no more.
  Result<void> run(const std::byte* entry);
  /// Before each run(): forgets earlier kicks.
  void forget_kicks();
  /// Makes run() return soon, now or when it is called. Any thread.
  void kick() override;

  /// Copies the frame of the signal that has ended run(), and the extended state in it; false where what the process
  /// says of them makes no sense.
  bool copy_frame(ucontext_t& frame, Shared::Xsave& xsave) const;

 private:
  Process() = default;
  /// What the process is given.
  struct Inheritance {
    int memory, shared, jumps;  ///< files
    int turns, monitor;         ///< the pipes' ends
  };
  Result<void> start(const Inheritance& inheritance);
  [[noreturn]] void live(const Inheritance& inheritance) const;
  Result<void> hand_over(const std::byte* entry, std::size_t commands);

  std::uint64_t base_ = 0, size_ = 0;
  Mapping shared_mapping_, jumps_;
  Shared* shared_ = nullptr;
  std::unique_ptr<dbt::CodeCache> cache_;
  Stub stub_;
  UniqueFd pidfd_, to_process_, from_process_;
  pid_t pid_ = -1;
  std::vector<Command> pending_;
  std::atomic<bool> kicked_{false};  ///< since forget_kicks()
};

}  // namespace doppel::engine::direct
