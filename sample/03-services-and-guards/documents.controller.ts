import { Body, Controller, HttpCode, Param, Post, UseGuards } from '@nestjs/common';
import { ApiKeyGuard } from './api-key.guard.js';
import { SharingService } from './sharing.service.js';

// This controller knows nothing about tasks: the guard and the service add them to the list of the request.
@Controller('documents')
@UseGuards(ApiKeyGuard)
export class DocumentsController {
  constructor(private readonly sharing: SharingService) {}

  @Post(':id/share')
  @HttpCode(204)
  share(@Param('id') id: string, @Body() people: string[]): void {
    this.sharing.share(id, people);
  }
}
