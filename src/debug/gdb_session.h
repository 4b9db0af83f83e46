#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "debug/debug_target.h"
#include "debug/register_layout.h"
#include "debug/stop_points.h"

namespace doppel::debug {

/// One debugger's conversation in GDB's remote serial protocol (GDB manual, appendix E), above the packet layer:
/// commands in, replies out, over a DebugTarget. A thread is a vCPU, numbered from 1. All-stop mode: processors stop
/// and go together.
///
/// Belongs to one thread. The machine is stopped when a session begins and goes on when it ends, unless it was killed.
class GdbSession {
 public:
  struct Output {
    std::function<void(std::string_view packet)> send;
    std::function<void()> stop_acknowledging;  ///< from the next packet on
  };
  enum class State : std::uint8_t { Stopped, Running, Detached, Killed };

  GdbSession(DebugTarget& target, Output output);
  ~GdbSession();
  GdbSession(const GdbSession&) = delete;
  GdbSession& operator=(const GdbSession&) = delete;

  State state() const { return state_; }
  void handle_packet(std::string_view packet);
  /// Ctrl-C.
  void interrupt();
  /// What the target's stop listener was told.
  void target_stopped(const Stop& stop);
  /// The machine has ended by itself.
  void target_ended(int status);

 private:
  using Handler = void (GdbSession::*)(std::string_view arguments);
  struct Command {
    std::string_view name;
    Handler handler;
  };
  static const Command kCommands[];

  void ok() { output_.send("OK"); }
  void error(unsigned code);
  void send_stop_reply();
  std::string stop_description() const;
  void resume(const std::vector<ResumeAction>& actions);
  void set_point(std::string_view arguments, bool insert);
  bool parse_thread(std::string_view text, std::optional<unsigned>& vcpu) const;

  void query_supported(std::string_view);
  void no_acknowledge_mode(std::string_view);
  void attached(std::string_view);
  void current_thread(std::string_view);
  void first_threads(std::string_view);
  void more_threads(std::string_view);
  void thread_information(std::string_view);
  void read_features(std::string_view);
  void monitor(std::string_view);
  void select_thread(std::string_view);
  void thread_alive(std::string_view);
  void stop_reason(std::string_view);
  void read_registers(std::string_view);
  void write_registers(std::string_view);
  void read_register(std::string_view);
  void write_register(std::string_view);
  void read_memory(std::string_view);
  void write_memory(std::string_view);
  void write_memory_binary(std::string_view);
  void insert_point(std::string_view);
  void remove_point(std::string_view);
  void resume_actions(std::string_view);
  void resume_actions_query(std::string_view);
  void continue_all(std::string_view);
  void step_one(std::string_view);
  void detach(std::string_view);
  void kill(std::string_view);
  void kill_process(std::string_view);

  DebugTarget& target_;
  Output output_;
  State state_ = State::Stopped;
  RegisterLayout layout_;
  StopPoints points_;
  Stop last_stop_;
  std::deque<Stop> waiting_stops_;  ///< of other vCPUs, that stopped at the same time
  unsigned general_vcpu_ = 0;       ///< for registers and memory: the Hg thread
};

}  // namespace doppel::debug
