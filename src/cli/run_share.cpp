#include "cli/run_share.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

namespace doppel::cli {
namespace {

/// It becomes a part of the kernel's command line.
bool is_plain_path(const std::string& path) {
  return path.starts_with('/') && std::ranges::all_of(path, [](unsigned char c) {
           return std::isalnum(c) != 0 || std::string_view("/-_.+@").find(static_cast<char>(c)) != std::string::npos;
         });
}

}  // namespace

Result<machine::ShareConfig> parse_share(const std::string& text, unsigned number) {
  const auto wrong = [&text](const std::string& why) { return Error{fmt::format("--share {}: {}", text, why)}; };
  constexpr std::string_view kReadOnly = ":ro";
  constexpr std::string_view kWritable = ":rw";
  machine::ShareConfig share{.tag = fmt::format("share{}", number)};
  std::string rest = text;
  share.read_only = rest.ends_with(kReadOnly);
  if (share.read_only || rest.ends_with(kWritable)) rest.resize(rest.size() - kReadOnly.size());
  // The last colon: the host's name may have one, the guest's has none.
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string::npos || colon == 0) return wrong("write HOSTDIR:GUESTDIR or HOSTDIR:GUESTDIR:ro");
  share.guest_path = rest.substr(colon + 1);
  if (!is_plain_path(share.guest_path)) {
    return wrong(
        fmt::format("\"{}\" is no directory for the guest: write an absolute path of letters, digits and "
                    "/ - _ . + @",
                    share.guest_path));
  }
  std::error_code error;
  share.path = std::filesystem::canonical(rest.substr(0, colon), error).string();
  if (error) return wrong(fmt::format("{}: {}", rest.substr(0, colon), error.message()));
  if (!std::filesystem::is_directory(share.path, error)) return wrong(share.path + " is not a directory");
  return share;
}

std::string share_argument(const machine::ShareConfig& share) {
  return fmt::format(" doppel.share={}:{}{}", share.tag, share.guest_path, share.read_only ? ":ro" : "");
}

}  // namespace doppel::cli
