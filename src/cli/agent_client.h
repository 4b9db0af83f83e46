#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "cli/agent_protocol.h"
#include "control/registry.h"

namespace doppel::cli {

struct AgentMessage {
  agent::Kind kind;
  std::vector<std::byte> body;
};

/// A stream to a port of the guest, through the machine's vsock socket: "CONNECT <port>\n" said and "OK …\n" heard.
/// The error is a machine without one, or a guest where nobody listens, or that says nothing for `limit` (0: no limit).
Result<UniqueFd> connect_vsock(const control::VmPaths& paths, std::uint32_t port, std::chrono::seconds limit = {});
/// Its two halves, for who asks many machines at a time.
bool request_vsock(int socket, std::uint32_t port);
bool await_vsock(int socket, std::chrono::seconds limit);
/// The same for the agent, which a guest that is still booting starts late: tries again until `patience` is over.
Result<UniqueFd> connect_agent(const control::RunningVm& vm, std::chrono::seconds patience);

/// Asks the guest's agent to shut the guest down. False: none answers, or not at once.
bool power_off_by_agent(const control::RunningVm& vm);

bool send_message(int fd, agent::Kind kind, std::span<const std::byte> body);
/// Nothing at the end of the stream, or when it is broken.
std::optional<AgentMessage> receive_message(int fd);

/// What tells a machine that goes on from a snapshot from what it was.
struct Renewal {
  std::string host_name{};  ///< empty: it is still the same machine, only later
  std::vector<std::string> addresses{};
};
/// Tells the guest the time, and gives it random numbers and a name of its own. False: its agent is an old one, and the
/// connection is of no more use.
bool send_renewal(int fd, const Renewal& renewal);
bool receive_renewed(int fd);

struct AgentCommand {
  std::vector<std::string> arguments;
  bool terminal = false;
  std::uint16_t rows = 0, columns = 0;
  std::string term{};
};
bool send_start(int fd, const AgentCommand& command);

}  // namespace doppel::cli
