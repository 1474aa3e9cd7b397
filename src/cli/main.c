/* The program: one command a file, see commands.def. */
#include "cli/commands.h"

#include "os/memory.h"
#include "os/process.h"

int main(int argc, char **argv)
{
    process_keep_standard_numbers();
    memory_return_large();
    return commands_main(argc, argv);
}
