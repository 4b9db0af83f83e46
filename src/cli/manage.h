#pragma once

#include <string>
#include <vector>

/// The commands for machines that are running already. Each returns the exit status, having printed its result on
/// standard output and errors on standard error.
namespace doppel::cli {

int list_machines(bool as_json, bool names_only);
/// Presses the power button of each and waits for its end.
int stop_machines(const std::vector<std::string>& names, unsigned timeout_s);
/// Ends them at once, also those that no longer answer.
int kill_machines(const std::vector<std::string>& names);
int pause_machines(const std::vector<std::string>& names);
int resume_machines(const std::vector<std::string>& names);
/// Everything about one machine, as JSON.
int inspect_machine(const std::string& name);
int show_stats(const std::string& name, bool as_json);
/// The same, after having counted instructions for so many seconds, with what came of it.
int measure_stats(const std::string& name, bool as_json, unsigned seconds);
/// What the engine has made of the guest's code at a linear address ("0x…").
int show_block(const std::string& name, const std::string& address, unsigned cpu);

}  // namespace doppel::cli
