#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "base/result.h"
#include "snapshot/snapshotter.h"

namespace doppel::control {

/// PUT /snapshot/load.
struct LoadRequest {
  std::string snapshot{};  ///< a machine's, "MACHINE" or "MACHINE:TAG"; empty: this machine's own
  std::string tag{};       ///< of its own; empty: the newest
  bool resume = false;     ///< it runs at once; else it is paused
};

/// What may be asked of a VM from outside. All calls come from one thread.
class Vm {
 public:
  virtual ~Vm() = default;

  virtual std::string name() const = 0;
  /// "Not started", "Running" or "Paused", Firecracker's words; "Ended" once it is over.
  virtual std::string state() const = 0;
  /// {"machine-config": {…}, "boot-source": {…}, …} in Firecracker's words.
  virtual nlohmann::json config() const = 0;
  virtual nlohmann::json inspect() = 0;
  virtual nlohmann::json stats() = 0;
  virtual void set_counting(bool counting) = 0;  ///< of what costs time to count
  /// Lists of lines; nothing where there is no such processor.
  virtual std::optional<nlohmann::json> describe_code(unsigned vcpu, std::uint64_t linear) = 0;

  virtual void pause() = 0;   ///< nothing when it is paused
  virtual void resume() = 0;  ///< nothing when it is not
  virtual void press_power_button() = 0;
  virtual void send_ctrl_alt_del() = 0;
  virtual void send_break() = 0;  ///< on the console's serial line
  /// Of the terminal that shows the console; false where the console cannot be told.
  virtual bool set_console_size(std::uint16_t columns, std::uint16_t rows) = 0;
  /// Asks the guest to give so much memory back; false without a balloon.
  virtual bool set_balloon(std::uint64_t bytes) = 0;
  virtual void kill() = 0;  ///< ends the VM without asking the guest

  /// Begins a snapshot; `done` is called when it is there, in any thread. The error is that none can be begun.
  virtual Result<void> snapshot(snapshot::CreateOptions options, snapshot::Snapshotter::Done done) = 0;
  virtual snapshot::Snapshotter::Progress snapshot_progress() const = 0;
  /// Has a machine that has not been started go on from a snapshot.
  virtual Result<void> load(const LoadRequest& request) = 0;
};

}  // namespace doppel::control
