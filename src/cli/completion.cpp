#include "cli/completion.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <vector>

namespace doppel::cli {
namespace {

struct Option {
  std::vector<std::string> names;  ///< with their dashes
  std::string help;
  bool takes_value;
  bool takes_file;
};

struct Command {
  std::string name;  ///< "run", or "image create" for one of a group
  std::string help;
  std::vector<Option> options;
  enum class Operand { None, File, Machine, Shell } operand = Operand::None;
  std::vector<Command> members = {};  ///< of a group
};

Command::Operand operand_of(const CLI::Option& option) {
  if (option.get_name() == "NAME") return Command::Operand::Machine;
  if (option.get_name() == "SHELL") return Command::Operand::Shell;
  return Command::Operand::File;
}

Command read_command(const CLI::App& app, const std::string& group = {}) {
  Command command{group + app.get_name(), app.get_description(), {}, {}};
  for (const CLI::App* const member : app.get_subcommands([](const CLI::App*) { return true; })) {
    command.members.push_back(read_command(*member, app.get_name() + " "));
  }
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      command.operand = operand_of(*option);
      continue;
    }
    Option read{{}, option->get_description(), option->get_items_expected_max() > 0, false};
    read.takes_file = option->get_type_name().find("FILE") != std::string::npos;
    for (const std::string& name : option->get_snames()) read.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) read.names.push_back("--" + name);
    command.options.push_back(std::move(read));
  }
  return command;
}

/// The last word of its name.
std::string own_name(const Command& command) {
  return command.name.substr(command.name.rfind(' ') + 1);
}

/// All commands, the members of groups after their group.
std::vector<Command> flattened(const std::vector<Command>& commands) {
  std::vector<Command> all;
  for (const Command& command : commands) {
    all.push_back(command);
    all.insert(all.end(), command.members.begin(), command.members.end());
  }
  return all;
}

std::string group_names(const std::vector<Command>& commands) {
  std::string names;
  for (const Command& command : commands) {
    if (!command.members.empty()) names += (names.empty() ? "" : " ") + command.name;
  }
  return names;
}

std::string joined_names(const std::vector<Option>& options) {
  std::string text;
  for (const Option& option : options) {
    for (const std::string& name : option.names) text += (text.empty() ? "" : " ") + name;
  }
  return text;
}

/// For single quotes in any of the three shells' scripts.
std::string in_single_quotes(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result;
}

std::string bash_script(const std::vector<Command>& commands) {
  std::string names;
  std::string cases;
  for (const Command& command : commands) names += (names.empty() ? "" : " ") + command.name;
  for (const Command& command : flattened(commands)) {
    std::string operands;
    for (const Command& member : command.members) operands += " " + own_name(member);
    switch (command.operand) {
      case Command::Operand::Machine:
        operands = " $(doppel ps -q 2>/dev/null)";
        break;
      case Command::Operand::Shell:
        operands = " bash zsh fish";
        break;
      case Command::Operand::File:
      case Command::Operand::None:
        break;
    }
    cases += fmt::format("    '{}') words=\"{}{}\" ;;\n", command.name, joined_names(command.options), operands);
  }
  return fmt::format(R"(# bash completion for doppel
_doppel() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} words="{} --help --version"
  local command=${{COMP_WORDS[1]}}
  ((COMP_CWORD > 2)) && [[ " {} " == *" $command "* ]] && command+=" ${{COMP_WORDS[2]}}"
  ((COMP_CWORD > 1)) && case $command in
{}    *) words= ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _doppel doppel
)",
                     names, group_names(commands), cases);
}

std::string zsh_script(const std::vector<Command>& commands) {
  // A colon or bracket in a help text would end it.
  const auto plain = [](std::string text) {
    std::erase_if(text, [](char c) { return c == '[' || c == ']' || c == ':'; });
    return in_single_quotes(text);
  };
  std::string names;
  std::string cases;
  for (const Command& command : commands) {
    names += fmt::format("    '{}:{}'\n", command.name, plain(command.help));
    if (command.members.empty()) continue;
    cases += fmt::format("    {}) local -a members=(", command.name);
    for (const Command& member : command.members)
      cases += fmt::format(" '{}:{}'", own_name(member), plain(member.help));
    cases += " ); _describe command members ;;\n";
  }
  for (const Command& command : flattened(commands)) {
    if (!command.members.empty()) continue;
    cases += fmt::format("    '{}') _arguments", command.name);
    for (const Option& option : command.options) {
      for (const std::string& name : option.names) {
        const char* const value = option.takes_file ? ":file:_files" : option.takes_value ? ":value: " : "";
        cases += fmt::format(" '{}[{}]{}'", name, plain(option.help), value);
      }
    }
    switch (command.operand) {
      case Command::Operand::Machine:
        cases += " \"*:machine:($(doppel ps -q 2>/dev/null))\"";
        break;
      case Command::Operand::Shell:
        cases += " ':shell:(bash zsh fish)'";
        break;
      case Command::Operand::File:
        cases += " '*:file:_files'";
        break;
      case Command::Operand::None:
        break;
    }
    cases += " ;;\n";
  }
  return fmt::format(R"(#compdef doppel
_doppel() {{
  local -a commands=(
{}  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  if [[ " {} " == *" $command "* ]] && ((CURRENT > 2)); then
    command+=" $words[2]"
    shift words
    ((CURRENT--))
  fi
  case $command in
{}  esac
}}
compdef _doppel doppel
)",
                     names, group_names(commands), cases);
}

std::string fish_script(const std::vector<Command>& commands) {
  std::string script = "# fish completion for doppel\ncomplete -c doppel -f\n";
  for (const Command& command : flattened(commands)) {
    const std::string name = own_name(command);
    const std::string group = command.name.substr(0, command.name.size() - name.size());
    script += fmt::format("complete -c doppel -n {} -a {} -d '{}'\n",
                          group.empty() ? "__fish_use_subcommand"
                                        : "'string match -rq \"^doppel +" + group + "+[^ ]*$\" (commandline -cp)'",
                          name, in_single_quotes(command.help));
    const std::string when = group.empty() ? fmt::format("complete -c doppel -n '__fish_seen_subcommand_from {}'", name)
                                           : fmt::format(
                                                 "complete -c doppel -n 'string match -rq \"^doppel +{}+{} \" "
                                                 "(commandline -cp)'",
                                                 group, name);
    for (const Option& option : command.options) {
      script += when;
      for (const std::string& name : option.names) {
        script += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      if (option.takes_value) script += option.takes_file ? " -r -F" : " -x";
      script += fmt::format(" -d '{}'\n", in_single_quotes(option.help));
    }
    switch (command.operand) {
      case Command::Operand::Machine:
        script += when + " -a '(doppel ps -q 2>/dev/null)'\n";
        break;
      case Command::Operand::Shell:
        script += when + " -a 'bash zsh fish'\n";
        break;
      case Command::Operand::File:
        script += when + " -F\n";
        break;
      case Command::Operand::None:
        break;
    }
  }
  return script;
}

}  // namespace

std::string completion_script(const CLI::App& app, const std::string& shell) {
  std::vector<Command> commands;
  for (const CLI::App* command : app.get_subcommands({})) commands.push_back(read_command(*command));
  if (shell == "bash") return bash_script(commands);
  return shell == "zsh" ? zsh_script(commands) : fish_script(commands);
}

}  // namespace doppel::cli
