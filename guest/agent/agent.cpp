// The agent in the guest: serves `doppel exec` and `doppel cp` over vsock; `doppel-agent connect PORT` instead connects
// its input and output to a port of the host. One process listens; each connection gets one of its own, which starts
// the command and carries its bytes. Linked statically, so that it runs on any distribution.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/agent_protocol.h"

namespace {

using namespace doppel::agent;

constexpr int kNotFound = 127, kNotExecutable = 126, kSignalBase = 128;
constexpr int kMaxArguments = 1024;

bool write_all(int fd, const void* bytes, size_t size) {
  const char* next = static_cast<const char*>(bytes);
  while (size > 0) {
    const ssize_t done = write(fd, next, size);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    next += done;
    size -= static_cast<size_t>(done);
  }
  return true;
}

bool read_all(int fd, void* bytes, size_t size) {
  char* next = static_cast<char*>(bytes);
  while (size > 0) {
    const ssize_t done = read(fd, next, size);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    next += done;
    size -= static_cast<size_t>(done);
  }
  return true;
}

bool send_message(int connection, Kind kind, const void* body, uint32_t size) {
  unsigned char header[kHeaderBytes];
  header[0] = static_cast<unsigned char>(kind);
  memcpy(header + 1, &size, sizeof size);
  return write_all(connection, header, sizeof header) && write_all(connection, body, size);
}

struct Message {
  Kind kind;
  uint32_t size;
  unsigned char body[kMaxBody + 1];
};

bool receive_message(int connection, Message& message) {
  unsigned char header[kHeaderBytes];
  if (!read_all(connection, header, sizeof header)) return false;
  message.kind = static_cast<Kind>(header[0]);
  memcpy(&message.size, header + 1, sizeof message.size);
  if (message.size > kMaxBody || !read_all(connection, message.body, message.size)) return false;
  message.body[message.size] = 0;
  return true;
}

uint16_t u16_at(const unsigned char* bytes) {
  return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
}

struct Command {
  bool terminal = false;
  winsize size{};
  char* arguments[kMaxArguments + 1]{};
};

bool parse(Message& message, Command& command) {
  if (message.kind != Kind::Start || message.size < kStartFixedBytes + 1) return false;
  command.terminal = message.body[0] != 0;
  command.size.ws_row = u16_at(message.body + 1);
  command.size.ws_col = u16_at(message.body + 3);
  char* const end = reinterpret_cast<char*>(message.body) + message.size;
  char* next = reinterpret_cast<char*>(message.body) + kStartFixedBytes;
  if (*next != 0) setenv("TERM", next, 1);
  int count = 0;
  for (next += strlen(next) + 1; next < end && count < kMaxArguments; next += strlen(next) + 1) {
    command.arguments[count++] = next;
  }
  return count > 0;
}

struct Process {
  pid_t pid = -1;
  int input = -1, output = -1, errors = -1;
};

[[noreturn]] void become(const Command& command, int failed) {
  if (getenv("HOME") == nullptr) setenv("HOME", "/root", 1);
  if (getenv("PATH") == nullptr) setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
  if (chdir(getenv("HOME")) != 0 && chdir("/") != 0) _exit(kNotExecutable);
  signal(SIGPIPE, SIG_DFL);
  execvp(command.arguments[0], command.arguments);
  const int why = errno;
  write_all(failed, &why, sizeof why);
  _exit(why == ENOENT ? kNotFound : kNotExecutable);
}

// False with errno set when the command could not be started.
bool start(const Command& command, Process& process) {
  int failed[2], in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
  if (pipe2(failed, O_CLOEXEC) != 0) return false;
  if (command.terminal) {
    winsize size = command.size;
    process.pid = forkpty(&process.output, nullptr, nullptr, size.ws_row != 0 ? &size : nullptr);
  } else {
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) return false;
    process.pid = fork();
    if (process.pid == 0) {
      setsid();
      dup2(in[0], 0);
      dup2(out[1], 1);
      dup2(err[1], 2);
    }
  }
  if (process.pid < 0) return false;
  if (process.pid == 0) become(command, failed[1]);
  close(failed[1]);
  if (command.terminal) {
    process.input = process.output;
  } else {
    close(in[0]);
    close(out[1]);
    close(err[1]);
    process.input = in[1];
    process.output = out[0];
    process.errors = err[0];
  }
  fcntl(process.input, F_SETFL, fcntl(process.input, F_GETFL) | O_NONBLOCK);
  int why = 0;
  const bool started = !read_all(failed[0], &why, sizeof why);
  close(failed[0]);
  if (!started) errno = why;
  return started;
}

// What the command has said goes to the host; false at its end.
bool forward(int from, int connection, Kind kind) {
  static char buffer[16384];
  const ssize_t got = read(from, buffer, sizeof buffer);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  return got > 0 && send_message(connection, kind, buffer, static_cast<uint32_t>(got));
}

// Carries bytes until the command's outputs are closed, or the host has gone (false).
class Session {
 public:
  Session(int connection, const Command& command, const Process& process)
      : connection_(connection), terminal_(command.terminal), process_(process) {}

  bool carry() {
    while (process_.output >= 0 || process_.errors >= 0) {
      const bool has_input = sent_ < input_size_;
      pollfd fds[4] = {{has_input ? -1 : connection_, POLLIN, 0},
                       {process_.output, POLLIN, 0},
                       {process_.errors, POLLIN, 0},
                       {has_input ? process_.input : -1, POLLOUT, 0}};
      if (poll(fds, 4, -1) < 0) continue;
      if (fds[3].revents != 0) pass_input();
      if (fds[1].revents != 0 && !forward(process_.output, connection_, Kind::Output)) close_output(process_.output);
      if (fds[2].revents != 0 && !forward(process_.errors, connection_, Kind::Errors)) close_output(process_.errors);
      if (fds[0].revents != 0 && !on_message()) return false;
    }
    return true;
  }

 private:
  void close_output(int& fd) {
    if (fd == process_.input) process_.input = -1;
    close(fd);
    fd = -1;
  }

  void close_input() {
    if (process_.input < 0) return;
    if (!terminal_) close(process_.input);
    process_.input = -1;
  }

  void pass_input() {
    const ssize_t done = write(process_.input, input_ + sent_, input_size_ - sent_);
    if (done < 0 && errno != EAGAIN && errno != EINTR) {
      sent_ = input_size_;
      close_input();
    }
    if (done > 0) sent_ += static_cast<uint32_t>(done);
  }

  bool on_message() {
    static Message message;
    if (!receive_message(connection_, message)) return false;
    switch (message.kind) {
      case Kind::Input:
        if (message.size == 0) {
          // A terminal's end of file is a character.
          static const char end_of_file = 4;
          if (terminal_ && process_.input >= 0) write_all(process_.input, &end_of_file, 1);
          close_input();
        } else if (process_.input >= 0) {
          memcpy(input_, message.body, message.size);
          input_size_ = message.size;
          sent_ = 0;
          pass_input();
        }
        break;
      case Kind::Resize:
        if (terminal_ && message.size >= 4) {
          winsize size{};
          size.ws_row = u16_at(message.body);
          size.ws_col = u16_at(message.body + 2);
          ioctl(process_.output, TIOCSWINSZ, &size);
        }
        break;
      case Kind::Signal:
        if (message.size >= 1) kill(-process_.pid, message.body[0]);
        break;
      default:
        break;
    }
    return true;
  }

  const int connection_;
  const bool terminal_;
  Process process_;
  unsigned char input_[kMaxBody];
  uint32_t input_size_ = 0, sent_ = 0;
};

void write_file(const char* path, const char* text) {
  // Only where there is one: others have no use for it.
  const int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
  if (fd < 0) return;
  write_all(fd, text, strlen(text));
  write_all(fd, "\n", 1);
  close(fd);
}

// What Linux is to make random numbers of, at once and not only some time: its next ones would be those of every other
// machine of the same snapshot.
void reseed(const unsigned char* bytes) {
  // struct rand_pool_info: how many bits the bytes are worth, how many bytes, the bytes.
  int pool[2 + kRandomBytes / sizeof(int)] = {8 * kRandomBytes, kRandomBytes};
  memcpy(pool + 2, bytes, kRandomBytes);
  const int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (ioctl(fd, RNDADDENTROPY, pool) == 0) ioctl(fd, RNDRESEEDCRNG);
  close(fd);
}

void renew_machine_id() {
  static const char path[] = "/etc/machine-id";
  char uuid[37] = {}, id[33] = {};
  const int fd = open("/proc/sys/kernel/random/uuid", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  const bool there = read_all(fd, uuid, sizeof uuid - 1);
  close(fd);
  char* next = id;
  for (const char* from = uuid; *from != 0; ++from) {
    if (*from != '-' && next != id + sizeof id - 1) *next++ = *from;
  }
  if (there) write_file(path, id);
}

bool parse_address(const char* text, sockaddr& address) {
  unsigned bytes[6];
  if (sscanf(text, "%x:%x:%x:%x:%x:%x", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4], &bytes[5]) != 6) {
    return false;
  }
  address.sa_family = ARPHRD_ETHER;
  for (int i = 0; i < 6; ++i) address.sa_data[i] = static_cast<char>(bytes[i]);
  return true;
}

void set_address(const char* card, const char* address) {
  ifreq request{};
  strncpy(request.ifr_name, card, sizeof request.ifr_name - 1);
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const bool known = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
  const short flags = request.ifr_flags;
  // Some drivers change it only while the card is down, which costs it its routes.
  if (known && parse_address(address, request.ifr_hwaddr) && ioctl(fd, SIOCSIFHWADDR, &request) != 0) {
    request.ifr_flags = static_cast<short>(flags & ~IFF_UP);
    ioctl(fd, SIOCSIFFLAGS, &request);
    parse_address(address, request.ifr_hwaddr);
    ioctl(fd, SIOCSIFHWADDR, &request);
    request.ifr_flags = flags;
    ioctl(fd, SIOCSIFFLAGS, &request);
  }
  close(fd);
}

int is_card(const dirent* entry) {
  char path[300];
  snprintf(path, sizeof path, "/sys/class/net/%s/device", entry->d_name);
  return access(path, F_OK) == 0 ? 1 : 0;
}

// Runs before everything else in the guest, or like everything else again. What hears of another time, another name and
// another address wants to do something about it at once, and the host waits meanwhile.
void go_first(bool first) {
  sched_param parameters{};
  parameters.sched_priority = first ? 1 : 0;
  sched_setscheduler(0, first ? SCHED_FIFO : SCHED_OTHER, &parameters);
}

// False: this is no such message.
bool renew(const Message& message) {
  if (message.kind != Kind::Renew || message.size < kRenewFixedBytes + 1) return false;
  uint64_t now = 0;
  memcpy(&now, message.body, sizeof now);
  const timespec time{static_cast<time_t>(now / 1000000000), static_cast<long>(now % 1000000000)};
  clock_settime(CLOCK_REALTIME, &time);
  reseed(message.body + sizeof now);
  const char* const end = reinterpret_cast<const char*>(message.body) + message.size;
  const char* next = reinterpret_cast<const char*>(message.body) + kRenewFixedBytes;
  if (*next == 0) return true;
  sethostname(next, strlen(next));
  write_file("/etc/hostname", next);
  renew_machine_id();
  dirent** cards = nullptr;
  const int count = scandir("/sys/class/net", &cards, is_card, alphasort);
  for (int i = 0; i < count; ++i) {
    if (next < end) next += strlen(next) + 1;
    if (next < end) set_address(cards[i]->d_name, next);
    free(cards[i]);
  }
  free(cards);
  return true;
}

void serve(int connection) {
  static Message message;
  static Command command;
  go_first(true);
  if (!receive_message(connection, message)) return;
  if (renew(message)) {
    const uint32_t done = 0;
    if (!send_message(connection, Kind::Exit, &done, sizeof done) || !receive_message(connection, message)) return;
  }
  go_first(false);
  if (!parse(message, command)) return;
  Process process;
  if (!start(command, process)) {
    char text[512];
    const int why = errno;
    snprintf(text, sizeof text, "%s: %s", command.arguments[0], strerror(why));
    send_message(connection, Kind::Failure, text, static_cast<uint32_t>(strlen(text)));
    return;
  }
  static Session session(connection, command, process);
  if (!session.carry()) {
    kill(-process.pid, SIGHUP);
    return;
  }
  int status = 0;
  while (waitpid(process.pid, &status, 0) < 0 && errno == EINTR) {
  }
  const uint32_t code = static_cast<uint32_t>(WIFEXITED(status) ? WEXITSTATUS(status) : kSignalBase + WTERMSIG(status));
  send_message(connection, Kind::Exit, &code, sizeof code);
}

// Carries bytes between standard input and output and the host's port, until the host has no more.
int connect_host(const char* text) {
  char* end = nullptr;
  const unsigned long port = strtoul(text, &end, 10);
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_HOST;
  address.svm_port = static_cast<unsigned>(port);
  const int host = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (*text == 0 || *end != 0 || host < 0 ||
      connect(host, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    fprintf(stderr, "doppel-agent: cannot connect to the host's port %s: %s\n", text, strerror(errno));
    return 1;
  }
  static char bytes[65536];
  pollfd from[2] = {{host, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  for (;;) {
    if (poll(from, 2, -1) < 0) continue;
    if (from[0].revents != 0) {
      const ssize_t got = read(host, bytes, sizeof bytes);
      if (got <= 0 || !write_all(STDOUT_FILENO, bytes, static_cast<size_t>(got))) return got == 0 ? 0 : 1;
    }
    if (from[1].revents != 0) {
      const ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
      if (got > 0 && write_all(host, bytes, static_cast<size_t>(got))) continue;
      shutdown(host, SHUT_WR);
      from[1].fd = -1;
    }
  }
}

int serve_all() {
  const int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_ANY;
  address.svm_port = kPort;
  if (listener < 0 || bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener, 64) != 0) {
    perror("doppel-agent: vsock");
    return 1;
  }
  for (;;) {
    const int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    if (connection < 0) continue;
    if (fork() == 0) {
      close(listener);
      serve(connection);
      // The host reads what is on its way before it sees the end.
      shutdown(connection, SHUT_WR);
      _exit(0);
    }
    close(connection);
  }
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 1) return serve_all();
  if (argc == 3 && strcmp(argv[1], "connect") == 0) return connect_host(argv[2]);
  fprintf(stderr, "usage: doppel-agent [connect PORT]\n");
  return 2;
}
