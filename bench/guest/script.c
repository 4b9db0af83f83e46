// A small Lisp, and a script for it: eight queens, primes, and sorting a list.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "suite.h"

enum Kind { kNumber, kSymbol, kPair, kBuiltin, kLambda };

struct Value {
  enum Kind kind;
  union {
    int64_t number;
    const char* symbol;
    struct {
      struct Value *first, *rest;
    };
    struct Value* (*builtin)(struct Value* arguments);
    struct {
      struct Value *code, *scope;  // code: (parameters body)
    };
  };
};

static struct Value nil = {.kind = kSymbol, .symbol = "nil"};

// Values are never freed one by one: after each run everything made by it goes at once.
enum { kArena = 1 << 19 };
static struct Value arena[kArena];
static size_t used, kept;

static struct Value* make(enum Kind kind) {
  if (used == kArena) fail("script: out of memory");
  arena[used].kind = kind;
  return &arena[used++];
}

static struct Value* number(int64_t n) {
  struct Value* value = make(kNumber);
  value->number = n;
  return value;
}

static struct Value* pair(struct Value* first, struct Value* rest) {
  struct Value* value = make(kPair);
  value->first = first;
  value->rest = rest;
  return value;
}

static struct Value* symbol(const char* name, size_t length) {
  static struct Value* symbols;  // a list
  for (struct Value* at = symbols; at && at != &nil; at = at->rest)
    if (strlen(at->first->symbol) == length && memcmp(at->first->symbol, name, length) == 0) return at->first;
  char* copy = strndup(name, length);
  struct Value* value = make(kSymbol);
  value->symbol = copy;
  symbols = pair(value, symbols ? symbols : &nil);
  return value;
}

static void skip_blanks(const char** in) {
  while (isspace((unsigned char)**in)) ++*in;
}

static struct Value* read_value(const char** in);

static struct Value* read_list(const char** in) {
  skip_blanks(in);
  if (**in == ')') {
    ++*in;
    return &nil;
  }
  struct Value* first = read_value(in);
  return pair(first, read_list(in));
}

static struct Value* read_value(const char** in) {
  skip_blanks(in);
  if (**in == '(') {
    ++*in;
    return read_list(in);
  }
  const char* start = *in;
  while (**in && !isspace((unsigned char)**in) && **in != '(' && **in != ')') ++*in;
  if (isdigit((unsigned char)*start)) return number(strtol(start, NULL, 10));
  if (*in - start == 3 && memcmp(start, "nil", 3) == 0) return &nil;
  return symbol(start, (size_t)(*in - start));
}

// Scopes are lists of (symbol . value) pairs; the outermost one is `globals`.
static struct Value* globals = &nil;
static struct Value *word_if, *word_lambda, *word_define;

static struct Value* look_up(struct Value* name, struct Value* scope) {
  for (; scope != &nil; scope = scope->rest)
    if (scope->first->first == name) return scope->first->rest;
  for (struct Value* at = globals; at != &nil; at = at->rest)
    if (at->first->first == name) return at->first->rest;
  fail("script: %s is not defined", name->symbol);
}

static struct Value* evaluate(struct Value* code, struct Value* scope);

static struct Value* evaluate_all(struct Value* list, struct Value* scope) {
  if (list == &nil) return list;
  struct Value* first = evaluate(list->first, scope);
  return pair(first, evaluate_all(list->rest, scope));
}

static struct Value* evaluate(struct Value* code, struct Value* scope) {
  for (;;) {
    if (code == &nil || code->kind == kNumber) return code;
    if (code->kind == kSymbol) return look_up(code, scope);
    struct Value* head = code->first;
    if (head == word_if) {
      const bool holds = evaluate(code->rest->first, scope) != &nil;
      code = holds ? code->rest->rest->first : code->rest->rest->rest->first;
      continue;
    }
    if (head == word_lambda) {
      struct Value* lambda = make(kLambda);
      lambda->code = code->rest;
      lambda->scope = scope;
      return lambda;
    }
    if (head == word_define) {
      globals = pair(pair(code->rest->first, evaluate(code->rest->rest->first, scope)), globals);
      return &nil;
    }
    struct Value* function = evaluate(head, scope);
    struct Value* arguments = evaluate_all(code->rest, scope);
    if (function->kind == kBuiltin) return function->builtin(arguments);
    if (function->kind != kLambda) fail("script: not a function");
    scope = function->scope;
    for (struct Value* name = function->code->first; name != &nil; name = name->rest, arguments = arguments->rest)
      scope = pair(pair(name->first, arguments->first), scope);
    code = function->code->rest->first;
  }
}

static struct Value* truth(bool holds) {
  return holds ? number(1) : &nil;
}
static struct Value* add(struct Value* a) {
  return number(a->first->number + a->rest->first->number);
}
static struct Value* subtract(struct Value* a) {
  return number(a->first->number - a->rest->first->number);
}
static struct Value* multiply(struct Value* a) {
  return number(a->first->number * a->rest->first->number);
}
static struct Value* remainder_of(struct Value* a) {
  return number(a->first->number % a->rest->first->number);
}
static struct Value* less(struct Value* a) {
  return truth(a->first->number < a->rest->first->number);
}
static struct Value* equal(struct Value* a) {
  return truth(a->first->number == a->rest->first->number);
}
static struct Value* is_nil(struct Value* a) {
  return truth(a->first == &nil);
}
static struct Value* cons(struct Value* a) {
  return pair(a->first, a->rest->first);
}
static struct Value* first_of(struct Value* a) {
  return a->first->first;
}
static struct Value* rest_of(struct Value* a) {
  return a->first->rest;
}

static const char kScript[] =
    "(define safe (lambda (row distance placed)"
    "  (if (nil? placed) 1"
    "    (if (= (first placed) row) nil"
    "      (if (= (first placed) (+ row distance)) nil"
    "        (if (= (+ (first placed) distance) row) nil (safe row (+ distance 1) (rest placed))))))))"
    "(define try (lambda (row size placed left)"
    "  (if (= row size) 0"
    "    (+ (if (safe row 1 placed) (queens size (cons row placed) (- left 1)) 0) (try (+ row 1) size placed left)))))"
    "(define queens (lambda (size placed left) (if (= left 0) 1 (try 0 size placed left))))"
    "(define divides (lambda (n d) (if (< n (* d d)) nil (if (= (% n d) 0) 1 (divides n (+ d 1))))))"
    "(define primes (lambda (n limit) (if (= n limit) nil"
    "  (if (divides n 2) (primes (+ n 1) limit) (cons n (primes (+ n 1) limit))))))"
    "(define filter (lambda (keep list) (if (nil? list) nil"
    "  (if (keep (first list)) (cons (first list) (filter keep (rest list))) (filter keep (rest list))))))"
    "(define append (lambda (a b) (if (nil? a) b (cons (first a) (append (rest a) b)))))"
    "(define sort (lambda (list) (if (nil? list) nil"
    "  (append (sort (filter (lambda (x) (< x (first list))) (rest list)))"
    "    (cons (first list) (sort (filter (lambda (x) (if (< x (first list)) nil 1)) (rest list))))))))"
    "(define scatter (lambda (list) (if (nil? list) nil (cons (% (* (first list) 7919) 1009) (scatter (rest list))))))"
    "(define sum (lambda (list weight) (if (nil? list) 0 (+ (* weight (first list)) (sum (rest list) (+ weight 1))))))"
    "(define main (lambda (size) (+ (* 1000000000 (queens size nil size)) (sum (sort (scatter (primes 2 400))) 1))))";

static void define(const char* name, struct Value* (*builtin)(struct Value*)) {
  struct Value* value = make(kBuiltin);
  value->builtin = builtin;
  globals = pair(pair(symbol(name, strlen(name)), value), globals);
}

static struct Value* script_main;

static void prepare(void) {
  if (script_main) return;
  word_if = symbol("if", 2);
  word_lambda = symbol("lambda", 6);
  word_define = symbol("define", 6);
  static const struct {
    const char* name;
    struct Value* (*builtin)(struct Value*);
  } kBuiltins[] = {{"+", add},   {"-", subtract},  {"*", multiply}, {"%", remainder_of}, {"<", less},
                   {"=", equal}, {"nil?", is_nil}, {"cons", cons},  {"first", first_of}, {"rest", rest_of}};
  for (size_t i = 0; i < sizeof kBuiltins / sizeof *kBuiltins; ++i) define(kBuiltins[i].name, kBuiltins[i].builtin);
  const char* in = kScript;
  for (skip_blanks(&in); *in; skip_blanks(&in)) evaluate(read_value(&in), &nil);
  const char* call = "(main 6)";
  script_main = read_value(&call);
  kept = used;
}

static uint64_t run(void) {
  used = kept;
  const uint64_t result = (uint64_t)evaluate(script_main, &nil)->number;
  if (result / 1000000000 != 4) fail("script: %llu ways to place six queens", (unsigned long long)result / 1000000000);
  return result;
}

const struct Row kScriptRows[] = {
    {"integer.script", "ns/run", 1, prepare, run},
    {0},
};
