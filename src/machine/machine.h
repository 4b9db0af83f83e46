#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/engine.h"
#include "machine/config.h"
#include "machine/saved_machine.h"
#include "memory/guest_memory.h"

namespace doppel::machine {

/// How a machine came to its end.
struct Outcome {
  enum class Kind : std::uint8_t {
    PowerOff,     ///< the guest switched itself off
    Reset,        ///< the guest rebooted and no_reboot was asked for
    Panic,        ///< the guest said so by pvpanic, or Linux on its console; `detail` is its reason
    TripleFault,  ///< a processor shut down; `detail` says where
    Diverged,     ///< lockstep has found its engines to disagree; `detail` says where, the log has the report
    DebugExit,    ///< isa-debug-exit; `status` is (value << 1) | 1, as QEMU's
    Stopped,      ///< stop() was called
  };
  Kind kind;
  int status = 0;
  std::string detail;
};

inline constexpr unsigned kSerialPorts = 4;
/// The virtio console of machines that have one, as one more port.
inline constexpr unsigned kVirtioConsole = kSerialPorts;

/// A whole system VM: memory, processors, devices and the threads that run them. The only place where the rooms are
/// wired together.
///
/// create() builds it and loads the guest's kernel, or what was saved of another machine. One thread, the owner, calls
/// run() and stays there until the machine ends. All other functions may be called by any thread that is not a vCPU's,
/// before and during run().
class Machine {
 public:
  /// Errors are the user's to mend, or Error::of_host.
  static Result<std::unique_ptr<Machine>> create(MachineConfig config);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Lets the processors go and handles resets, until the machine ends. Call it once. Errors are those of loading the
  /// kernel again.
  Result<Outcome> run();

  // --- Life cycle ---
  enum class State : std::uint8_t { Created, Running, Paused, Ended };
  State state() const;
  /// Stops all processors between two instructions, and the VM clock with them. Calls nest.
  void pause();
  void resume();
  /// Presses the ACPI power button.
  void press_power_button();
  /// Asks the guest to give this much memory back; false when the machine has no balloon.
  bool set_balloon(std::uint64_t bytes);
  /// Ctrl-Alt-Del on the keyboard.
  void send_ctrl_alt_del();
  /// Resets the machine as the reset button would.
  void reset();
  /// Ends run() with Outcome::Stopped.
  void stop();

  // --- Serial ports, 0 being COM1, and the virtio console ---
  /// Where a port's output goes; called in vCPU threads, one call at a time per port. Set before run().
  void set_serial_output(unsigned port, std::function<void(std::span<const std::byte>)> sink);
  /// Queues input; returns how many bytes were taken (a full queue takes fewer: try again after `on_input_space`).
  std::size_t send_serial_input(unsigned port, std::span<const std::byte> bytes);
  /// A break condition, after which the guest finds a null byte; lost when the port has no room. A virtio console has
  /// none.
  void send_serial_break(unsigned port);
  /// Called, in a vCPU thread, when a port that refused bytes has room again. Set before run().
  void set_serial_input_space(unsigned port, std::function<void()> on_input_space);
  /// Tells the guest how large the terminal is that shows the virtio console; false when it has none.
  bool set_console_size(std::uint16_t columns, std::uint16_t rows);

  // --- Saving ---
  /// Has `work` called in the owner's thread while all processors and devices stand still; never, if the machine ends
  /// before that.
  void while_stopped(std::function<void()> work);
  /// In while_stopped: when the processors were asked to stop.
  std::chrono::steady_clock::time_point stopped_since() const;
  /// In while_stopped: everything but RAM, in a form that any engine and any host can go on from.
  SavedState save();
  /// In while_stopped: from now on RAM's WriteObserver is told before any page is written for the first time.
  void forget_write_rights();
  memory::GuestMemory& memory();
  /// In the order of config().disks. Their images may be replaced in while_stopped, when nothing is in flight.
  const std::vector<storage::Disk*>& disks() const;

  // --- Looking inside ---
  const MachineConfig& config() const;
  std::string_view engine_name() const;
  /// The state of processors and devices, by name. Pauses the machine for the moment.
  nlohmann::json inspect();
  /// Counters of engine and devices. Does not pause.
  nlohmann::json stats();
  /// Has the engines count what costs time to count. Pauses the machine for the moment.
  void set_counting(bool counting);
  /// What the engine of a processor has made of the guest's code at a linear address, as lists of lines for people.
  /// Pauses the machine for the moment.
  nlohmann::json describe_code(unsigned vcpu, std::uint64_t linear);

  // --- Debugging; the machine must be paused for all but set_debug_listener ---
  /// Called when a processor meets what its DebugRequest asked for, in the owner's thread with the machine paused (one
  /// level, which the listener's side undoes by resume()). Pass nullptr to detach.
  void set_debug_listener(std::function<void(unsigned vcpu, const engine::Exit& exit)> listener);
  void set_debug_request(unsigned vcpu, const engine::DebugRequest& request);
  /// A held processor stays where it is when the machine goes on: the debugger steps another alone.
  void hold(unsigned vcpu, bool held);
  x86::CpuState cpu_state(unsigned vcpu);
  void set_cpu_state(unsigned vcpu, const x86::CpuState& state);
  /// By linear address, as that processor sees memory now; false when a byte is not mapped to RAM.
  bool read_linear(unsigned vcpu, std::uint64_t address, std::span<std::byte> out);
  bool write_linear(unsigned vcpu, std::uint64_t address, std::span<const std::byte> bytes);

 private:
  class Impl;
  explicit Machine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace doppel::machine
