#include "jail/filter.h"

#include <fmt/format.h>
#include <seccomp.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "base/system_error.h"

namespace doppel::jail {
namespace {

using Context = std::unique_ptr<void, decltype(&seccomp_release)>;

bool includes(Needs needs, Needs group) {
  const auto bits = static_cast<std::uint8_t>(group);
  return (static_cast<std::uint8_t>(needs) & bits) == bits;
}

/// 0 or a negative errno, as libseccomp has it.
int add_rules(scmp_filter_ctx context, Needs needs) {
  for (const Group& group : allow_list()) {
    if (!includes(needs, group.needs)) continue;
    for (const Rule& rule : group.rules) {
      const Rule::Condition condition = rule.condition.value_or(Rule::Condition{});
      const scmp_arg_cmp compare{condition.argument, SCMP_CMP_MASKED_EQ, condition.mask, condition.value};
      const int status =
          seccomp_rule_add_array(context, SCMP_ACT_ALLOW, rule.system_call, rule.condition ? 1 : 0, &compare);
      if (status != 0) return status;
    }
  }
  const scmp_arg_cmp this_process{0, SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid()), 0};
  for (const int call : allowed_on_this_process()) {
    if (const int status = seccomp_rule_add_array(context, SCMP_ACT_ALLOW, call, 1, &this_process); status != 0)
      return status;
  }
  for (const int call : unknown_calls()) {
    if (const int status = seccomp_rule_add(context, SCMP_ACT_ERRNO(ENOSYS), call, 0); status != 0) return status;
  }
  for (const int call : fatal_calls()) {
    if (const int status = seccomp_rule_add(context, SCMP_ACT_KILL_PROCESS, call, 0); status != 0) return status;
  }
  return 0;
}

}  // namespace

Result<void> install_filter(Needs needs) {
  const Context context(seccomp_init(SCMP_ACT_ERRNO(EPERM)), seccomp_release);
  if (context == nullptr) return Error{"cannot make a system call filter"};
  seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  // Speculation is the guest's business only as far as it crosses processes; the host's default stays.
  seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_SSB, 1);
  // A tree instead of a list: some hundred comparisons would be felt in every system call.
  seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  int status = add_rules(context.get(), needs);
  if (status == 0) status = seccomp_load(context.get());
  if (status != 0) return system_error("the kernel does not take a system call filter", -status);
  return {};
}

}  // namespace doppel::jail
