#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "debug/fake_target.h"
#include "debug/gdb_connection.h"

/// Any bytes from a debugger are answered or ignored, and when it is gone the machine runs again unless it was killed.
/// The first byte says how the rest is cut into pieces; between pieces, a running machine stops for some reason.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using doppel::debug::GdbSession;
  using doppel::debug::Stop;
  if (size == 0) return 0;
  const std::size_t piece = std::size_t{data[0]} + 1;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);

  doppel::debug::test::FakeTarget target(3);
  {
    doppel::debug::GdbConnection connection(target, [](std::string_view) {});
    for (unsigned turn = 0; !bytes.empty() && !connection.over(); ++turn) {
      connection.receive(bytes.substr(0, piece));
      bytes.remove_prefix(std::min(piece, bytes.size()));
      if (connection.session().state() == GdbSession::State::Running) {
        target.stopped = true;
        connection.session().target_stopped({static_cast<Stop::Reason>(turn % 5), turn % 4, turn % 4 * 0x1000ULL});
        connection.session().target_stopped({Stop::Reason::Watchpoint, turn % 3, 0x1000});
      }
    }
  }
  if (target.stopped && target.kills == 0) std::abort();
  return 0;
}
