#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "machine/machine.h"
#include "snapshot/keeper.h"
#include "snapshot/manifest.h"
#include "snapshot/ram_capture.h"

namespace doppel::snapshot {

struct CreateOptions {
  std::string tag;
  bool full = false;  ///< all of RAM, though the snapshot before this one is there to build on
};

/// What a finished snapshot has cost.
struct CreateReport {
  std::chrono::nanoseconds stopped{};  ///< how long the guest stood still
  std::uint64_t stored_bytes = 0;
  bool incremental = false;
};

/// Makes snapshots of one running machine, one at a time, in a thread of its own. The guest stands still only while its
/// processors' and devices' state is taken down; RAM is written behind it.
///
/// All functions may be called by any thread; one at a time.
class Snapshotter {
 public:
  /// The machine and the keeper's socket outlive it; the machine has not run yet. `base`: the snapshot that the machine
  /// has gone on from.
  Snapshotter(machine::Machine& machine, int keeper_socket, std::optional<Manifest> base);
  /// Once the machine has ended: finishes what was captured, gives up what was not.
  ~Snapshotter();
  Snapshotter(const Snapshotter&) = delete;
  Snapshotter& operator=(const Snapshotter&) = delete;

  using Done = std::function<void(Result<CreateReport>)>;
  /// Begins one; `done` is called in the other thread. The error is that one is under way.
  Result<void> create(CreateOptions options, Done done);

  /// Of the one under way.
  struct Progress {
    bool active = false;
    std::uint64_t pages = 0, pages_done = 0;
  };
  Progress progress() const;

 private:
  Result<CreateReport> make(const CreateOptions& options);
  Result<CreateReport> write(const CreateOptions& options, const Keeper::Files& files);
  /// At the instant, in the machine's owner's thread.
  void take(bool may_be_incremental, std::vector<Keeper::Overlay> overlays);
  Result<std::vector<Keeper::Overlay>> make_overlays();
  std::vector<storage::Disk*> written_disks();

  machine::Machine& machine_;
  Keeper keeper_;
  RamCapture capture_;
  const Manifest description_;    ///< of the machine, as of no snapshot
  std::optional<Manifest> base_;  ///< whose RAM differs from the machine's by its dirty pages only

  std::thread thread_;
  std::atomic<bool> active_ = false;
  std::atomic<std::uint64_t> pages_ = 0, pages_done_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  bool taken_ = false;
  struct Instant {
    machine::SavedState state;
    bool incremental = false;
    std::int64_t time = 0;
    std::chrono::nanoseconds stopped{};
    std::size_t disks = 0;  ///< that go on in new layers
    Result<void> result{};
  } instant_;
};

}  // namespace doppel::snapshot
