package TAP::Formatter::Totals;

# prove's usual report, and a last line to be read by machines:
#
#	N passed, N failed, N skipped
#
# A skipped test has not passed.  A script that died, or did not keep to its
# plan, has failed at least once, whatever its tests said.

use strict;
use warnings;

use TAP::Formatter::Console;
use TAP::Formatter::File;

our @ISA = -t STDOUT ? 'TAP::Formatter::Console' : 'TAP::Formatter::File';

sub summary {
    my ( $self, $aggregate, $interrupted ) = @_;
    my ( $passed, $failed, $skipped ) = ( 0, $interrupted ? 1 : 0, 0 );

    $self->SUPER::summary( $aggregate, $interrupted );
    for my $parser ( $aggregate->parsers( $aggregate->descriptions ) ) {
        my $broken = $parser->exit || $parser->wait || $parser->parse_errors;

        $skipped += $parser->skipped + ( $parser->skip_all ? 1 : 0 );
        $passed  += $parser->passed - $parser->skipped;
        $failed  += $parser->failed || ( $broken ? 1 : 0 );
    }
    $self->_output("$passed passed, $failed failed, $skipped skipped\n");
    return;
}

1;
