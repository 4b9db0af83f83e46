#include "cli/agent_script.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "boot/embedded_guest.h"
#include "cli/exit_status.h"
#include "cli/message.h"

namespace doppel::cli {
namespace {

constexpr std::size_t kBytesPerLine = 57;  // 76 characters

void append_base64(std::string& to, std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto at = [bytes](std::size_t i) { return i < bytes.size() ? std::to_integer<unsigned>(bytes[i]) : 0U; };
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const unsigned group = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    to += kDigits[group >> 18];
    to += kDigits[group >> 12 & 63];
    to += i + 1 < bytes.size() ? kDigits[group >> 6 & 63] : '=';
    to += i + 2 < bytes.size() ? kDigits[group & 63] : '=';
  }
}

}  // namespace

std::string agent_script() {
  const boot::DebianRecipe recipe = boot::debian_recipe();
  std::string script = "#!/bin/sh\nunpack() {\n\tbase64 -d <<'AGENT'\n";
  for (std::span<const std::byte> rest = recipe.agent; !rest.empty();) {
    const std::size_t part = std::min(rest.size(), kBytesPerLine);
    append_base64(script, rest.first(part));
    script += '\n';
    rest = rest.subspan(part);
  }
  script += "AGENT\n}\n";
  return script += recipe.agent_install;
}

int print_agent_script() {
  if (::isatty(STDOUT_FILENO) == 1) {
    complain("agent prints a long script that is to run in the guest, as root: doppel agent | ssh root@guest sh");
    return exit_status::kUsage;
  }
  const std::string script = agent_script();
  return write_all(STDOUT_FILENO, std::as_bytes(std::span{script})).ok() ? exit_status::kSuccess
                                                                         : exit_status::kFailure;
}

}  // namespace doppel::cli
