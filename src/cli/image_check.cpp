// doppel image check
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/exit_status.h"
#include "cli/image_commands.h"
#include "cli/message.h"
#include "cli/progress_bar.h"
#include "storage/open.h"
#include "storage/qcow2/check.h"

namespace doppel::cli {
namespace {

using json = nlohmann::ordered_json;
using storage::qcow2::CheckResult;
using storage::qcow2::Repair;

// qemu-img's.
constexpr int kCannotCheck = 1;
constexpr int kCorrupt = 2;
constexpr int kLeaks = 3;

void print_json(const std::string& path, const CheckResult& result) {
  json entry{{"filename", path},
             {"format", "qcow2"},
             {"check-errors", result.check_errors},
             {"image-end-offset", result.image_end_offset},
             {"total-clusters", result.total_clusters},
             {"allocated-clusters", result.allocated_clusters}};
  const auto add = [&](const char* name, std::uint64_t count) {
    if (count != 0) entry[name] = count;
  };
  add("fragmented-clusters", result.fragmented_clusters);
  add("compressed-clusters", result.compressed_clusters);
  add("corruptions", result.corruptions - result.corruptions_fixed);
  add("leaks", result.leaks - result.leaks_fixed);
  add("corruptions-fixed", result.corruptions_fixed);
  add("leaks-fixed", result.leaks_fixed);
  fmt::print("{}\n", entry.dump(4));
}

void print_human(const CheckResult& result) {
  for (const std::string& message : result.messages) fmt::print("{}\n", message);
  const std::uint64_t shown = result.messages.size();
  const std::uint64_t found = result.corruptions + result.leaks + result.check_errors;
  if (found > shown) fmt::print("and {} more\n", found - shown);
  if (result.corruptions_fixed + result.leaks_fixed != 0) {
    fmt::print("repaired: {} errors, {} leaked clusters\n", result.corruptions_fixed, result.leaks_fixed);
  }
  const std::uint64_t corruptions = result.corruptions - result.corruptions_fixed;
  const std::uint64_t leaks = result.leaks - result.leaks_fixed;
  if (corruptions != 0) fmt::print("{} errors: the image is corrupt; repair it with -r all\n", corruptions);
  if (leaks != 0)
    fmt::print("{} clusters are leaked, which wastes space and harms nothing; free them with -r leaks\n", leaks);
  if (result.check_errors != 0) fmt::print("{} parts could not be examined\n", result.check_errors);
  if (corruptions + leaks + result.check_errors == 0) fmt::print("no errors\n");
  const double total = static_cast<double>(std::max<std::uint64_t>(result.total_clusters, 1));
  fmt::print("{}/{} clusters allocated ({:.2f} %), {} fragmented, {} compressed; the image ends at byte {}\n",
             result.allocated_clusters, result.total_clusters,
             static_cast<double>(result.allocated_clusters) * 100 / total, result.fragmented_clusters,
             result.compressed_clusters, result.image_end_offset);
}

}  // namespace

int image_check(const ImageOptions& options) {
  const std::string& path = options.file;
  const Repair repair = options.repair == "all"     ? Repair::All
                        : options.repair == "leaks" ? Repair::Leaks
                                                    : Repair::None;
  auto image = storage::open_image(path, {.format = if_given(options.format),
                                          .read_only = repair == Repair::None,
                                          .lock = !options.force_share,
                                          .with_backing = false,
                                          .for_check = true});
  if (!image) return image_failure(image.error());
  auto* const qcow = dynamic_cast<storage::qcow2::Qcow2Image*>(image->get());
  if (qcow == nullptr) {
    complain(fmt::format("{} is a raw image: there is nothing to check", path));
    return kCannotCheck;
  }
  ProgressBar bar("checking", options.quiet);
  const auto result =
      check_image(*qcow, repair, [&bar](std::uint64_t done, std::uint64_t total) { bar.show(done, total); });
  if (!result) return image_failure(result.error());
  if (options.wants_json()) {
    print_json(path, *result);
  } else if (!options.quiet) {
    print_human(*result);
  }
  if (result->check_errors != 0) return kCannotCheck;
  if (result->corruptions > result->corruptions_fixed) return kCorrupt;
  return result->leaks > result->leaks_fixed ? kLeaks : exit_status::kSuccess;
}

}  // namespace doppel::cli
