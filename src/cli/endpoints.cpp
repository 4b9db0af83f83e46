#include "cli/endpoints.h"

#include <utility>

#include "control/unix_socket.h"

namespace doppel::cli {

Result<Endpoints> Endpoints::open(const control::VmPaths& paths) {
  Result<UniqueFd> control_socket = control::listen_unix(paths.control_socket());
  if (!control_socket) return control_socket.error();
  Result<UniqueFd> console_socket = control::listen_unix(paths.console_socket());
  if (!console_socket) return console_socket.error();
  Result<control::ConsoleLog> log = control::ConsoleLog::create(paths.console_log(), paths.other_console_log());
  if (!log) return log.error();
  return Endpoints{*std::move(control_socket), *std::move(console_socket), *std::move(log)};
}

}  // namespace doppel::cli
